// Command order runs the order service; --help lists its configuration.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/order"
)

func main() { service.Main("order", order.Run) }
