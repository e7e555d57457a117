// Package payments handles the commands that move money.
//
// Each has two parts: the provider is called before the transaction, under a key made from the order's id, so that a
// command that comes again (redelivered, redriven, or sent anew after a crash between the two parts) moves money once;
// then the effect and its event are written in one transaction.
package payments

import (
	"context"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/store"
)

// Payments has the handlers.
type Payments struct {
	// Known has the payments that there are.
	Known    *store.Reader
	Provider provider.Provider
	// NewID names payments.
	NewID func() string
}

// Listen adds the handlers to c.
func (p *Payments) Listen(c *consumer.Consumer) {
	c.Prepare(readAhead)
	consumer.OnCall(c, p.charge)
	consumer.OnCall(c, p.refund)
}

// readAhead reads the payments of a batch in one statement; they are written so too.
func readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	return store.ReadAhead(ctx, tx.Tx, event.Keys(batch))
}

func chargeKey(orderID string) string { return "charge-" + orderID }

func refundKey(orderID string) string { return "refund-" + orderID }
