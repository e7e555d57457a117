package fanout

import (
	"cmp"
	"context"
	"encoding/json"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/queue"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

// Sender takes what leaves the service to where it goes, by topic.
type Sender struct {
	Feed    *feed.Feed
	Webhook *queue.Queue
	Kafka   app.Sender
}

// SendBatch implements outbox.Sender: one round trip to each place, which keeps the order of a key's events.
func (s Sender) SendBatch(ctx context.Context, batch []event.Addressed) []error {
	errs := make([]error, len(batch))
	var entries []feed.Entry
	var tasks []event.Event
	var rest []event.Addressed
	var entryAt, taskAt, restAt []int
	unreadable := map[string]error{} // streams with an entry that cannot be sent: those behind it wait
	for i, a := range batch {
		switch a.Topic {
		case FeedTopic:
			entry, err := entryOf(a.Event)
			if err = cmp.Or(unreadable[a.Event.Key], err); err != nil {
				errs[i], unreadable[a.Event.Key] = err, err
				continue
			}
			entries, entryAt = append(entries, entry), append(entryAt, i)
		case webhook.Stream:
			tasks, taskAt = append(tasks, a.Event), append(taskAt, i)
		default:
			rest, restAt = append(rest, a), append(restAt, i)
		}
	}
	if len(entries) > 0 {
		for i, err := range s.Feed.Append(ctx, entries) {
			errs[entryAt[i]] = err
		}
	}
	if len(tasks) > 0 {
		err := s.Webhook.PutAll(ctx, tasks)
		for _, i := range taskAt {
			errs[i] = err
		}
	}
	if len(rest) > 0 {
		for i, err := range s.Kafka.SendBatch(ctx, rest) {
			errs[restAt[i]] = err
		}
	}
	return errs
}

func entryOf(e event.Event) (feed.Entry, error) {
	var n notificationapi.Notification
	if err := json.Unmarshal(e.Data, &n); err != nil {
		return feed.Entry{}, fault.Permanentf("feed entry %s: %w", e.ID, err)
	}
	number, ok := feed.ParsePosition(n.Position)
	if !ok {
		return feed.Entry{}, fault.Permanentf("feed entry %s: position %q is none", e.ID, n.Position)
	}
	return feed.Entry{
		Key: n.CustomerID, Number: number, ID: n.ID, Data: e.Data,
		Traceparent: e.Traceparent, Tracestate: e.Tracestate,
	}, nil
}

// SendRecord implements deadletter.Sender: a letter of the webhook channel goes back to its queue, any other to Kafka.
func (s Sender) SendRecord(ctx context.Context, r kafka.Record) error {
	if r.Topic != deadletter.RedriveTopic(webhook.Group) {
		return s.Kafka.SendRecord(ctx, r)
	}
	e, err := event.FromHeaders(r.Headers, r.Value)
	if err != nil {
		return fault.Permanentf("this letter was no notification and cannot be delivered: %w", err)
	}
	return s.Webhook.Put(ctx, e)
}
