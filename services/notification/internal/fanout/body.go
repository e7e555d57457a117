package fanout

import (
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

// FeedTopic is the outbox topic of entries on their way to a customer's stream.
const FeedTopic = "notification.feed"

// Internal tells whether a message type is one of this service's own, which have no schema in the contracts.
func Internal(typ string) bool { return typ == FeedTopic || typ == webhook.Stream }

// View is a notification as clients see it: the same JSON in lists, streams and on the channels.
func View(n rules.Notification) notificationapi.Notification {
	return notificationapi.Notification{
		ID: n.ID, Position: feed.Position(n.Number), CustomerID: n.CustomerID, OrderID: n.OrderID, OrderVersion: n.OrderVersion,
		Kind: n.Kind, Title: n.Title, Text: n.Text, At: n.At,
	}
}

// feedEntry and webhookTask are the outbox bodies.
type (
	feedEntry   struct{ notificationapi.Notification }
	webhookTask struct{ notificationapi.Notification }
)

func (feedEntry) EventType() string    { return FeedTopic }
func (feedEntry) EventTopic() string   { return FeedTopic }
func (webhookTask) EventType() string  { return webhook.Stream }
func (webhookTask) EventTopic() string { return webhook.Stream }
