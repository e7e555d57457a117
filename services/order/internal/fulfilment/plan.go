package fulfilment

import (
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

// The steps of an order's saga. The README says how to add one.
const (
	stepReserve = "reserve_stock"
	stepCharge  = "charge_payment"
	stepShip    = "arrange_shipping"
)

// Limits of every step.
type Limits struct {
	// Do is how long a participant may take to answer before the order is cancelled.
	Do time.Duration
	// Undo is how long it may take to answer a compensation before that is sent again.
	Undo time.Duration
	// UndoAttempts is how often a compensation is sent before an operator must look at it.
	UndoAttempts int
}

// Plans are the sagas of an order: the one that new orders get, and all that orders under way may have begun under. A
// changed plan is a new version beside the old one, which stays for as long as an order may run under it.
func Plans(l Limits) (current *saga.Definition, all []*saga.Definition, err error) {
	step := func(name string) saga.Step {
		return saga.Step{Name: name, Deadline: l.Do, UndoDeadline: l.Undo, MaxUndoAttempts: l.UndoAttempts}
	}
	versions := [][]saga.Step{
		{step(stepReserve), step(stepCharge), step(stepShip)},
	}
	for i, steps := range versions {
		current, err = saga.NewDefinition("order", i+1, steps...)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, current)
	}
	return current, all, nil
}

// Participants are who the commands go to: the groups, and their topics.
func Participants() app.Participants {
	return app.Participants{
		"inventory": {events.TopicInventoryCommands}, "payment": {events.TopicPaymentCommands}, "shipping": {events.TopicShippingCommands},
	}
}

// command is the message that a saga's command sends for an order.
func command(o rules.Order, c saga.Command) event.Body {
	do := c.Kind == saga.Do
	why := events.NewReason(c.Reason, "")
	switch c.Step {
	case stepReserve:
		if do {
			return events.InventoryReserve{OrderID: o.ID, Lines: quantities(o)}
		}
		return events.InventoryRelease{OrderID: o.ID, Reason: why}
	case stepCharge:
		if do {
			return events.PaymentCharge{OrderID: o.ID, CustomerID: o.CustomerID, Amount: o.Total, PaymentMethod: o.PaymentMethod}
		}
		return events.PaymentRefund{OrderID: o.ID, CustomerID: o.CustomerID, Amount: o.Total, Reason: why}
	default:
		if do {
			return events.ShippingArrange{OrderID: o.ID, CustomerID: o.CustomerID, Address: o.ShippingAddress, Lines: quantities(o)}
		}
		return events.ShippingCancel{OrderID: o.ID, CustomerID: o.CustomerID, Reason: why}
	}
}

func quantities(o rules.Order) []events.Line {
	lines := make([]events.Line, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = events.Line{SKU: l.SKU, Quantity: l.Quantity}
	}
	return lines
}

// reply is what a participant's event means to the saga.
func reply(body event.Body) saga.Reply {
	switch b := body.(type) {
	case events.InventoryReserved:
		return saga.Reply{Step: stepReserve, Outcome: saga.Done}
	case events.InventoryRejected:
		return saga.Reply{Step: stepReserve, Outcome: saga.Failed, Reason: events.ReasonOutOfStock, Detail: detail(events.ReasonOutOfStock, b.Reason)}
	case events.InventoryReleased:
		return saga.Reply{Step: stepReserve, Outcome: saga.Undone}
	case events.PaymentCharged:
		return saga.Reply{Step: stepCharge, Outcome: saga.Done}
	case events.PaymentDeclined:
		return saga.Reply{Step: stepCharge, Outcome: saga.Failed, Reason: events.ReasonPaymentDeclined, Detail: detail(events.ReasonPaymentDeclined, b.Reason)}
	case events.PaymentRefunded:
		return saga.Reply{Step: stepCharge, Outcome: saga.Undone}
	case events.ShippingArranged:
		return saga.Reply{Step: stepShip, Outcome: saga.Done}
	case events.ShippingFailed:
		return saga.Reply{Step: stepShip, Outcome: saga.Failed, Reason: events.ReasonShippingRefused, Detail: detail(events.ReasonShippingRefused, b.Reason)}
	case events.ShippingCancelled:
		return saga.Reply{Step: stepShip, Outcome: saga.Undone}
	}
	return saga.Reply{}
}

// detail keeps the participant's own code beside its words, where it says more than the saga's.
func detail(code string, r events.Reason) string {
	switch {
	case r.Detail == "":
		return r.Code
	case r.Code == code:
		return r.Detail
	}
	return r.Code + ": " + r.Detail
}
