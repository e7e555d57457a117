package events

import "time"

// Message types of the order service's events, with the topics that carry them.
const (
	TypeOrderCreated   = "order.created"
	TypeOrderConfirmed = "order.confirmed"
	TypeOrderCancelled = "order.cancelled"

	TopicOrderCreated   = "order.created"
	TopicOrderConfirmed = "order.confirmed"
	TopicOrderCancelled = "order.cancelled"
)

// OrderCreated is an event. An order was placed and priced; nothing else has happened yet.
type OrderCreated struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Version    int64  `json:"version"`
	// Lines: what was ordered; at most one line a product.
	Lines List[PricedLine] `json:"lines"`
	// Total: the sum of quantity times unit price over all lines.
	Total           Money     `json:"total"`
	ShippingAddress Address   `json:"shipping_address"`
	CreatedAt       time.Time `json:"created_at"`
}

// EventType is TypeOrderCreated.
func (OrderCreated) EventType() string { return TypeOrderCreated }

// EventTopic is TopicOrderCreated.
func (OrderCreated) EventTopic() string { return TopicOrderCreated }

// OrderConfirmed is an event. Stock is reserved, money charged and shipping arranged: the order is final.
type OrderConfirmed struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Version    int64  `json:"version"`
	// Total: what was charged.
	Total          Money     `json:"total"`
	TrackingNumber string    `json:"tracking_number"`
	Carrier        string    `json:"carrier"`
	ConfirmedAt    time.Time `json:"confirmed_at"`
}

// EventType is TypeOrderConfirmed.
func (OrderConfirmed) EventType() string { return TypeOrderConfirmed }

// EventTopic is TopicOrderConfirmed.
func (OrderConfirmed) EventTopic() string { return TopicOrderConfirmed }

// OrderCancelled is an event. The order has failed or was called off, and whatever had been done for it is undone.
type OrderCancelled struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Version    int64  `json:"version"`
	// Total: what the order would have cost.
	Total       Money     `json:"total"`
	Reason      Reason    `json:"reason"`
	CancelledAt time.Time `json:"cancelled_at"`
}

// EventType is TypeOrderCancelled.
func (OrderCancelled) EventType() string { return TypeOrderCancelled }

// EventTopic is TopicOrderCancelled.
func (OrderCancelled) EventTopic() string { return TopicOrderCancelled }
