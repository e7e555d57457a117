package fanout

import (
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
)

// FeedTopic is the outbox topic of entries on their way to a customer's stream.
const FeedTopic = "notification.feed"

// WebhookStream is the webhook channel's outbox topic and its Redis stream.
const WebhookStream = "notifications.channel.webhook"

// WebhookChannel is the channel's name in deliveries and totals.
const WebhookChannel = "webhook"

// Internal tells whether a message type is one of this service's own, which have no schema in the contracts.
func Internal(typ string) bool { return typ == FeedTopic || typ == WebhookStream }

// View is a notification as clients see it: the same JSON in lists, streams and on the channels.
func View(n rules.Notification) notificationapi.Notification {
	return notificationapi.Notification{
		ID: n.ID, Position: n.Position(), CustomerID: n.CustomerID, OrderID: n.OrderID, OrderVersion: n.OrderVersion,
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
func (webhookTask) EventType() string  { return WebhookStream }
func (webhookTask) EventTopic() string { return WebhookStream }
