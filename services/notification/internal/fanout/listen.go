package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/store"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

// notifier turns events into notifications.
type notifier struct {
	// hooks tells whether the webhook channel is on.
	hooks bool
	// says has, by event type, what an event says to the customer; false for nothing.
	says map[string]func(event.Event) (rules.Notification, bool)
}

// Listen adds the handlers. hooks tells whether the webhook channel is on.
func Listen(c *consumer.Consumer, hooks bool) {
	n := notifier{hooks, map[string]func(event.Event) (rules.Notification, bool){}}
	c.Prepare(n.readAhead)
	on(n, c, always(rules.Placed))
	on(n, c, always(rules.Confirmed))
	on(n, c, always(rules.Cancelled))
	on(n, c, rules.Refunded)
}

func always[T event.Body](say func(T) rules.Notification) func(T, time.Time) (rules.Notification, bool) {
	return func(body T, _ time.Time) (rules.Notification, bool) { return say(body), true }
}

func on[T event.Body](n notifier, c *consumer.Consumer, say func(body T, at time.Time) (rules.Notification, bool)) {
	var zero T
	n.says[zero.EventType()] = func(e event.Event) (said rules.Notification, ok bool) {
		var body T
		if err := json.Unmarshal(e.Data, &body); err != nil {
			return said, false // its handler says so
		}
		return say(body, e.Time)
	}
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, body T) error {
		said, ok := say(body, e.Time)
		if !ok {
			return nil
		}
		return n.notify(ctx, tx, said)
	})
}

// readAhead reads what the notifications of a batch need, in one statement each; they are written so too.
func (n notifier) readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	var list []rules.Notification
	for _, e := range batch {
		if say := n.says[e.Type]; say != nil {
			if said, ok := say(e); ok {
				list = append(list, said)
			}
		}
	}
	return store.Ahead(ctx, tx.Tx, list...)
}

// notify writes a notification and sends it on its ways, once for each transition: the inbox drops a message that comes
// again, and Add an event that says again, under another id, what was said.
func (n notifier) notify(ctx context.Context, tx *outbox.Tx, said rules.Notification) error {
	said, fresh, err := store.Add(ctx, tx.Tx, said, tx.Now())
	if err != nil || !fresh {
		return err
	}
	if _, err := tx.Publish(ctx, said.CustomerID, feedEntry{View(said)}); err != nil {
		return err
	}
	if !n.hooks {
		return nil
	}
	store.PutDelivery(tx.Tx, store.Delivery{Channel: webhook.Name, NotificationID: said.ID, State: store.Waiting}, tx.Now())
	_, err = tx.Publish(ctx, said.CustomerID, webhookTask{View(said)})
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
