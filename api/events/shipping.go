package events

// Message types of the shipping service's events and of the commands that it takes, with the topics that carry them.
const (
	TypeShippingArranged  = "shipping.arranged"
	TypeShippingFailed    = "shipping.failed"
	TypeShippingCancelled = "shipping.cancelled"
	TypeShippingArrange   = "shipping.arrange"
	TypeShippingCancel    = "shipping.cancel"

	TopicShippingArranged  = "shipping.arranged"
	TopicShippingFailed    = "shipping.failed"
	TopicShippingCancelled = "shipping.cancelled"
	TopicShippingCommands  = "shipping.commands"
)

// ShippingArranged is an event. A carrier has taken the order on.
type ShippingArranged struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// ShipmentID: the shipping service's own id of the shipment.
	ShipmentID     string `json:"shipment_id"`
	Carrier        string `json:"carrier"`
	TrackingNumber string `json:"tracking_number"`
}

// EventType is TypeShippingArranged.
func (ShippingArranged) EventType() string { return TypeShippingArranged }

// EventTopic is TopicShippingArranged.
func (ShippingArranged) EventTopic() string { return TopicShippingArranged }

// ShippingFailed is an event. No carrier takes the order; nothing was arranged.
type ShippingFailed struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Reason     Reason `json:"reason"`
}

// EventType is TypeShippingFailed.
func (ShippingFailed) EventType() string { return TypeShippingFailed }

// EventTopic is TopicShippingFailed.
func (ShippingFailed) EventTopic() string { return TopicShippingFailed }

// ShippingCancelled is an event. No parcel is on its way for the order, and an arrangement that is asked for later will be refused.
type ShippingCancelled struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// ShipmentID: the shipment that was cancelled; absent when there was none.
	ShipmentID string `json:"shipment_id,omitempty"`
}

// EventType is TypeShippingCancelled.
func (ShippingCancelled) EventType() string { return TypeShippingCancelled }

// EventTopic is TopicShippingCancelled.
func (ShippingCancelled) EventTopic() string { return TopicShippingCancelled }

// ShippingArrange is a command. Have a carrier take the order on. Answered by shipping.arranged or shipping.failed.
type ShippingArrange struct {
	OrderID    string     `json:"order_id"`
	CustomerID string     `json:"customer_id"`
	Address    Address    `json:"address"`
	Lines      List[Line] `json:"lines"`
}

// EventType is TypeShippingArrange.
func (ShippingArrange) EventType() string { return TypeShippingArrange }

// EventTopic is TopicShippingCommands.
func (ShippingArrange) EventTopic() string { return TopicShippingCommands }

// ShippingCancel is a command. Call the parcel back. Answered by shipping.cancelled, also when there was none.
type ShippingCancel struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Reason     Reason `json:"reason"`
}

// EventType is TypeShippingCancel.
func (ShippingCancel) EventType() string { return TypeShippingCancel }

// EventTopic is TopicShippingCommands.
func (ShippingCancel) EventTopic() string { return TopicShippingCommands }
