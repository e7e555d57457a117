// Command payment is the payment service. Its configuration is the environment; --help lists it.
package main

import (
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/payment"
)

func main() { service.Main(payment.Name, payment.Run) }
