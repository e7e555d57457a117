// Package listen turns order events into figures.
package listen

import (
	"context"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/analytics/internal/rules"
	"github.com/orderflow/orderflow/services/analytics/internal/store"
)

// Listen adds the handlers.
func Listen(c *consumer.Consumer) {
	c.Prepare(readAhead)
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, o events.OrderCreated) error {
		return count(ctx, tx, rules.Event{
			Kind: rules.Created, OrderID: o.OrderID, CustomerID: o.CustomerID, Version: o.Version, Total: o.Total, At: o.CreatedAt,
		})
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, o events.OrderConfirmed) error {
		return count(ctx, tx, rules.Event{
			Kind: rules.Confirmed, OrderID: o.OrderID, CustomerID: o.CustomerID, Version: o.Version, Total: o.Total, At: o.ConfirmedAt,
		})
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, o events.OrderCancelled) error {
		return count(ctx, tx, rules.Event{
			Kind: rules.Cancelled, OrderID: o.OrderID, CustomerID: o.CustomerID, Version: o.Version, Total: o.Total, At: o.CancelledAt,
		})
	})
}

// readAhead reads what is remembered of the orders of a batch; it is written so too, and so are the figures.
func readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	return store.Ahead(ctx, tx.Tx, event.Keys(batch))
}

func count(ctx context.Context, tx *outbox.Tx, e rules.Event) error {
	o, err := store.Load(ctx, tx.Tx, e.OrderID)
	if err != nil {
		return err
	}
	if o, change, changed := rules.Apply(o, e); changed {
		store.Save(tx.Tx, o, change)
	}
	return nil
}
