// Command notification tells customers what happens to their orders. --help lists its settings.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification"
)

func main() { service.Main("notification", notification.Run) }
