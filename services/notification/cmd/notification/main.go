// Command notification tells customers what happens to their orders. --help lists its settings.
package main

import (
	"github.com/redis/go-redis/v9/logging"

	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification"
)

func main() {
	// The client prints, outside of the log's format, what its calls return as errors anyway.
	logging.Disable()
	service.Main("notification", notification.Run)
}
