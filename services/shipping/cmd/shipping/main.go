// Command shipping is the shipping service. Its configuration is the environment; --help lists it.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/shipping"
)

func main() { service.Main(shipping.Name, shipping.Run) }
