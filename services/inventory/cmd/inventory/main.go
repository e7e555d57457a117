// Command inventory runs the inventory service; --help lists its configuration.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/inventory"
)

func main() { service.Main("inventory", inventory.Run) }
