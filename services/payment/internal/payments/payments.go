// Package payments handles the commands that move money.
//
// Each has two parts: the provider is called before the transaction, under a key made from the order's id, so that a
// command that comes again (redelivered, redriven, or sent anew after a crash between the two parts) moves money once;
// then the effect and its event are written in one transaction.
package payments

import (
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
)

// Payments has the handlers.
type Payments struct {
	DB       *database.DB
	Provider provider.Provider
	// NewID names payments.
	NewID func() string
}

// Listen adds the handlers to c.
func (p *Payments) Listen(c *consumer.Consumer) {
	consumer.OnCall(c, p.charge)
	consumer.OnCall(c, p.refund)
}

func chargeKey(orderID string) string { return "charge-" + orderID }

func refundKey(orderID string) string { return "refund-" + orderID }
