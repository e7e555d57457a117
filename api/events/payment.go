package events

// Message types of the payment service's events and of the commands that it takes, with the topics that carry them.
const (
	TypePaymentCharged  = "payment.charged"
	TypePaymentDeclined = "payment.declined"
	TypePaymentRefunded = "payment.refunded"
	TypePaymentCharge   = "payment.charge"
	TypePaymentRefund   = "payment.refund"

	TopicPaymentCharged  = "payment.charged"
	TopicPaymentDeclined = "payment.declined"
	TopicPaymentRefunded = "payment.refunded"
	TopicPaymentCommands = "payment.commands"
)

// PaymentCharged is an event. The order was charged.
type PaymentCharged struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// PaymentID: the payment service's own id of the payment.
	PaymentID string `json:"payment_id"`
	// Amount: what was charged.
	Amount            Money  `json:"amount"`
	ProviderReference string `json:"provider_reference"`
}

// EventType is TypePaymentCharged.
func (PaymentCharged) EventType() string { return TypePaymentCharged }

// EventTopic is TopicPaymentCharged.
func (PaymentCharged) EventTopic() string { return TopicPaymentCharged }

// PaymentDeclined is an event. Nothing was charged.
type PaymentDeclined struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	Reason     Reason `json:"reason"`
}

// EventType is TypePaymentDeclined.
func (PaymentDeclined) EventType() string { return TypePaymentDeclined }

// EventTopic is TopicPaymentDeclined.
func (PaymentDeclined) EventTopic() string { return TopicPaymentDeclined }

// PaymentRefunded is an event. The customer owes and is owed nothing for the order, and a charge that arrives later will be refused.
type PaymentRefunded struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// Amount: what went back; 0 when nothing had been charged.
	Amount Money `json:"amount"`
	// ProviderReference: the provider's reference of the refund; absent when nothing had been charged.
	ProviderReference string `json:"provider_reference,omitempty"`
}

// EventType is TypePaymentRefunded.
func (PaymentRefunded) EventType() string { return TypePaymentRefunded }

// EventTopic is TopicPaymentRefunded.
func (PaymentRefunded) EventTopic() string { return TopicPaymentRefunded }

// PaymentCharge is a command. Charge the order, once. Answered by payment.charged or payment.declined.
type PaymentCharge struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// Amount: what to charge.
	Amount        Money  `json:"amount"`
	PaymentMethod string `json:"payment_method"`
}

// EventType is TypePaymentCharge.
func (PaymentCharge) EventType() string { return TypePaymentCharge }

// EventTopic is TopicPaymentCommands.
func (PaymentCharge) EventTopic() string { return TopicPaymentCommands }

// PaymentRefund is a command. Give back what was charged for the order. Answered by payment.refunded, also when nothing had been charged.
type PaymentRefund struct {
	OrderID    string `json:"order_id"`
	CustomerID string `json:"customer_id"`
	// Amount: what was to be charged. What goes back is what really was.
	Amount Money  `json:"amount"`
	Reason Reason `json:"reason"`
}

// EventType is TypePaymentRefund.
func (PaymentRefund) EventType() string { return TypePaymentRefund }

// EventTopic is TopicPaymentCommands.
func (PaymentRefund) EventTopic() string { return TopicPaymentCommands }
