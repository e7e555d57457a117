package fanout

import (
	"context"
	"errors"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/store"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

// Listen adds the handlers. hooks tells whether the webhook channel is on.
func Listen(c *consumer.Consumer, hooks bool) {
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderCreated) error {
		return notify(ctx, tx, rules.Placed(body), hooks)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderConfirmed) error {
		return notify(ctx, tx, rules.Confirmed(body), hooks)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, _ event.Event, body events.OrderCancelled) error {
		return notify(ctx, tx, rules.Cancelled(body), hooks)
	})
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, body events.PaymentRefunded) error {
		n, ok := rules.Refunded(body, e.Time)
		if !ok {
			return nil
		}
		return notify(ctx, tx, n, hooks)
	})
}

// notify writes n and sends it on its ways, once for each transition: the inbox drops a message that comes again, and
// Add an event that says again, under another id, what was said.
func notify(ctx context.Context, tx *outbox.Tx, n rules.Notification, hooks bool) error {
	n, fresh, err := store.Add(ctx, tx.Tx, n, tx.Now())
	if err != nil || !fresh {
		return err
	}
	if _, err := tx.Publish(ctx, n.CustomerID, feedEntry{View(n)}); err != nil {
		return err
	}
	if !hooks {
		return nil
	}
	d := store.Delivery{Channel: webhook.Name, NotificationID: n.ID, State: store.Waiting}
	if err := store.PutDelivery(ctx, tx.Tx, d, tx.Now()); err != nil {
		return err
	}
	_, err = tx.Publish(ctx, n.CustomerID, webhookTask{View(n)})
	return err
}

// Requeue puts deliveries on the webhook's queue again that have been waiting since before the given instant: Redis
// has lost them, or the channel was off. It is for when the queue is idle; an entry too many is dropped by the channel.
// It returns how many there were, at most limit.
func Requeue(ctx context.Context, o *outbox.Outbox, before time.Time, limit int) (n int, err error) {
	err = o.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		list, err := store.Outstanding(ctx, tx.Tx, webhook.Name, before, tx.Now(), limit)
		for _, lost := range list {
			_, published := tx.Publish(ctx, lost.CustomerID, webhookTask{View(lost)})
			err = errors.Join(err, published)
		}
		n = len(list)
		return err
	})
	return n, err
}
