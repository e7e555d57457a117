package events

import (
	"errors"
	"slices"
	"strings"
)

// ErrUnknownType says that a message type is none of ours.
var ErrUnknownType = errors.New("unknown message type")

// Body is what every message type here says of itself.
type Body interface {
	// EventType is the CloudEvents type.
	EventType() string
	// EventTopic is the Kafka topic.
	EventTopic() string
}

// Message is one entry of the registry.
type Message struct {
	// Type is the CloudEvents type; the schema is <Type>.json.
	Type string
	// Topic carries the message.
	Topic string
	// New returns a pointer to an empty body, to decode into.
	New func() Body
}

// Command reports whether the message asks for something (one consumer, who does it) rather than says what happened.
func (m Message) Command() bool { return m.Topic != m.Type }

func entry[T Body]() Message {
	var zero T
	return Message{Type: zero.EventType(), Topic: zero.EventTopic(), New: func() Body { return any(new(T)).(Body) }}
}

var registry = sortedByType([]Message{
	entry[OrderCreated](), entry[OrderConfirmed](), entry[OrderCancelled](),
	entry[InventoryReserved](), entry[InventoryRejected](), entry[InventoryReleased](),
	entry[InventoryReserve](), entry[InventoryRelease](),
	entry[PaymentCharged](), entry[PaymentDeclined](), entry[PaymentRefunded](),
	entry[PaymentCharge](), entry[PaymentRefund](),
	entry[ShippingArranged](), entry[ShippingFailed](), entry[ShippingCancelled](),
	entry[ShippingArrange](), entry[ShippingCancel](),
})

func sortedByType(all []Message) []Message {
	slices.SortFunc(all, func(a, b Message) int { return strings.Compare(a.Type, b.Type) })
	return all
}

// All returns every message, sorted by type.
func All() []Message { return slices.Clone(registry) }

// Find returns the message of a type.
func Find(typ string) (Message, bool) {
	i, found := slices.BinarySearchFunc(registry, typ, func(m Message, t string) int { return strings.Compare(m.Type, t) })
	if !found {
		return Message{}, false
	}
	return registry[i], true
}
