// Package shipments handles the commands that move parcels.
//
// Each has two parts: the carrier is called before the transaction, under a key made from the order's id, so that a
// command that comes again (redelivered, redriven, or sent anew after a crash between the two parts) moves one parcel;
// then the effect and its event are written in one transaction.
package shipments

import (
	"context"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/store"
)

// Shipments has the handlers.
type Shipments struct {
	// Known has the shipments that there are.
	Known   *store.Reader
	Carrier carrier.Carrier
	// NewID names shipments.
	NewID func() string
}

// Listen adds the handlers to c.
func (s *Shipments) Listen(c *consumer.Consumer) {
	c.Prepare(readAhead)
	consumer.OnCall(c, s.arrange)
	consumer.OnCall(c, s.cancel)
}

// readAhead reads the shipments of a batch in one statement; they are written so too.
func readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	return store.ReadAhead(ctx, tx.Tx, event.Keys(batch))
}

func arrangeKey(orderID string) string { return "arrange-" + orderID }

func cancelKey(orderID string) string { return "cancel-" + orderID }
