// Package rules is how an event about an order moves the figures. It knows no database, broker or clock.
//
// Events of one order come on several topics, so order.confirmed may be here before order.created, and an event may
// come twice. Whatever the order in which they come, the figures end the same: an order's state is that of the highest
// version seen, and each kind of event is counted once an order.
package rules

import (
	"time"

	"github.com/orderflow/orderflow/api/events"
)

// Kind of event, as a set.
type Kind int

// The events that are counted.
const (
	Created Kind = 1 << iota
	Confirmed
	Cancelled
)

// State is an order's state as far as its events tell.
type State string

// An order is pending from order.created until one of the others.
const (
	Pending        State = "pending"
	StateConfirmed State = "confirmed"
	StateCancelled State = "cancelled"
)

func (k Kind) state() State {
	switch k {
	case Confirmed:
		return StateConfirmed
	case Cancelled:
		return StateCancelled
	default:
		return Pending
	}
}

// Order is what is remembered of one.
type Order struct {
	ID         string
	CustomerID string
	State      State
	// Version is the highest seen, 0 for an order that is new.
	Version int64
	// Seen is the set of kinds that have been counted.
	Seen  Kind
	Total events.Money
}

// Event is what the figures need of one.
type Event struct {
	Kind       Kind
	OrderID    string
	CustomerID string
	Version    int64
	Total      events.Money
	At         time.Time
}

// Change is what an event adds to the figures.
type Change struct {
	// Left and Entered are the states whose count goes down and up by one; empty for none.
	Left, Entered State
	// NewOrder is whether the order had not been heard of.
	NewOrder bool
	// Minute is the start of the tumbling window, by the event's own time, in which Counted goes up by one.
	Minute  time.Time
	Counted Kind
	// Revenue is added where the order was confirmed.
	Revenue events.Money
}

// Apply returns the order after an event, and what the event adds. changed is false for one that adds nothing.
func Apply(o Order, e Event) (after Order, c Change, changed bool) {
	if o.Seen&e.Kind != 0 {
		return o, Change{}, false
	}
	c = Change{NewOrder: o.Version == 0, Minute: e.At.UTC().Truncate(time.Minute), Counted: e.Kind}
	if e.Version > o.Version {
		c.Left, c.Entered = o.State, e.Kind.state()
		o.State, o.Version = c.Entered, e.Version
	}
	if e.Kind == Confirmed {
		c.Revenue = e.Total
	}
	o.ID, o.CustomerID, o.Total = e.OrderID, e.CustomerID, e.Total
	o.Seen |= e.Kind
	return o, c, true
}
