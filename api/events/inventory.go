package events

// Message types of the inventory service's events and of the commands that it takes, with the topics that carry them.
const (
	TypeInventoryReserved = "inventory.reserved"
	TypeInventoryRejected = "inventory.rejected"
	TypeInventoryReleased = "inventory.released"
	TypeInventoryReserve  = "inventory.reserve"
	TypeInventoryRelease  = "inventory.release"

	TopicInventoryReserved = "inventory.reserved"
	TopicInventoryRejected = "inventory.rejected"
	TopicInventoryReleased = "inventory.released"
	TopicInventoryCommands = "inventory.commands"
)

// InventoryReserved is an event. All lines of the order are reserved.
type InventoryReserved struct {
	OrderID string     `json:"order_id"`
	Lines   List[Line] `json:"lines"`
}

// EventType is TypeInventoryReserved.
func (InventoryReserved) EventType() string { return TypeInventoryReserved }

// EventTopic is TopicInventoryReserved.
func (InventoryReserved) EventTopic() string { return TopicInventoryReserved }

// InventoryRejected is an event. Nothing was reserved.
type InventoryRejected struct {
	OrderID string `json:"order_id"`
	Reason  Reason `json:"reason"`
	// Shortages: what was missing; empty when the reason is another.
	Shortages List[Shortage] `json:"shortages"`
}

// EventType is TypeInventoryRejected.
func (InventoryRejected) EventType() string { return TypeInventoryRejected }

// EventTopic is TopicInventoryRejected.
func (InventoryRejected) EventTopic() string { return TopicInventoryRejected }

// InventoryReleased is an event. The order holds no stock, and a reservation that arrives later will be refused.
type InventoryReleased struct {
	OrderID string `json:"order_id"`
	// Lines: what was given back; empty when there was nothing.
	Lines List[Line] `json:"lines"`
}

// EventType is TypeInventoryReleased.
func (InventoryReleased) EventType() string { return TypeInventoryReleased }

// EventTopic is TopicInventoryReleased.
func (InventoryReleased) EventTopic() string { return TopicInventoryReleased }

// InventoryReserve is a command. Reserve all of the lines, or none. Answered by inventory.reserved or inventory.rejected.
type InventoryReserve struct {
	OrderID string     `json:"order_id"`
	Lines   List[Line] `json:"lines"`
}

// EventType is TypeInventoryReserve.
func (InventoryReserve) EventType() string { return TypeInventoryReserve }

// EventTopic is TopicInventoryCommands.
func (InventoryReserve) EventTopic() string { return TopicInventoryCommands }

// InventoryRelease is a command. Give back what is reserved for the order. Answered by inventory.released, also when there was nothing.
type InventoryRelease struct {
	OrderID string `json:"order_id"`
	Reason  Reason `json:"reason"`
}

// EventType is TypeInventoryRelease.
func (InventoryRelease) EventType() string { return TypeInventoryRelease }

// EventTopic is TopicInventoryCommands.
func (InventoryRelease) EventTopic() string { return TopicInventoryCommands }
