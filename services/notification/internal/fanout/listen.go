package fanout

import (
	"context"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/store"
)

// Listen adds the handlers. webhook tells whether that channel is on.
func Listen(c *consumer.Consumer, webhook bool) {
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderCreated) error {
		return notify(ctx, tx, rules.Placed(body), webhook)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderConfirmed) error {
		return notify(ctx, tx, rules.Confirmed(body), webhook)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderCancelled) error {
		return notify(ctx, tx, rules.Cancelled(body), webhook)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, body events.PaymentRefunded) error {
		n, ok := rules.Refunded(body, e.Time)
		if !ok {
			return nil
		}
		return notify(ctx, tx, n, webhook)
	})
}

// notify writes n and sends it on its ways, once for each transition: the inbox drops a message that comes again, and
// Add an event that says again, under another id, what was said.
func notify(ctx context.Context, tx *outbox.Tx, n rules.Notification, webhook bool) error {
	n, fresh, err := store.Add(ctx, tx.Tx, n, tx.Now())
	if err != nil || !fresh {
		return err
	}
	if _, err := tx.Publish(ctx, n.CustomerID, feedEntry{View(n)}); err != nil {
		return err
	}
	if !webhook {
		return nil
	}
	d := store.Delivery{Channel: WebhookChannel, NotificationID: n.ID, State: store.Waiting}
	if err := store.PutDelivery(ctx, tx.Tx, d, tx.Now()); err != nil {
		return err
	}
	_, err = tx.Publish(ctx, n.CustomerID, webhookTask{View(n)})
	return err
}
