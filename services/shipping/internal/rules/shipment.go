// Package rules is what a shipment is and what may become of it. It knows no database, carrier or clock.
package rules

import (
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
)

// State of a shipment.
type State string

// An order's shipment is arranged or refused, once and for all; an arranged one can be cancelled. Voided is the
// tombstone of a cancellation that found nothing arranged: an arrangement that comes later is refused.
const (
	Arranged  State = "arranged"
	Refused   State = "refused"
	Cancelled State = "cancelled"
	Voided    State = "voided"
)

// ReasonCancelled is why an arrangement is refused that comes after the order's cancellation.
const ReasonCancelled = "cancelled"

// Shipment is what became of one order's parcel.
type Shipment struct {
	OrderID    string
	CustomerID string
	// ID is this service's own name for it.
	ID    string
	State State
	// Carrier and TrackingNumber are set once a carrier has taken it on, and stay.
	Carrier        string
	TrackingNumber string
	// Failure is why it was refused.
	Failure   events.Reason
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Totals is how many shipments are in each state.
type Totals struct{ Arranged, Refused, Cancelled, Voided int64 }

// Outcome is what the carrier made of an arrangement: Arranged, Refused, or Voided when it had been called off.
type Outcome struct {
	State          State
	Carrier        string
	TrackingNumber string
	// Failure is why it was refused.
	Failure events.Reason
}

// Recall is what the carrier made of a cancellation.
type Recall struct {
	// Found is false when nothing had been arranged, which is now called off for ever.
	Found          bool
	Carrier        string
	TrackingNumber string
}

// Arrange returns the shipment after the carrier's answer to an arrangement. The first answer stands, so known, if not
// nil, is returned as it is, unless it and the answer cannot both be true.
func Arrange(known *Shipment, cmd events.ShippingArrange, o Outcome, id string, at time.Time) (Shipment, error) {
	if known == nil {
		return Shipment{
			OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, ID: id, State: o.State, Carrier: o.Carrier,
			TrackingNumber: o.TrackingNumber, Failure: o.Failure, CreatedAt: at.UTC(), UpdatedAt: at.UTC(),
		}, nil
	}
	if o.State == Arranged && (known.State == Refused || known.State == Voided) {
		return Shipment{}, fault.Permanentf("order %s: the carrier arranged (%s) what is %s here", cmd.OrderID, o.TrackingNumber, known.State)
	}
	return *known, nil
}

// Cancel returns the shipment after the carrier's answer to a cancellation. The carrier's word on what had been arranged
// counts, because an arrangement whose answer was lost is known only to it.
func Cancel(known *Shipment, cmd events.ShippingCancel, r Recall, id string, at time.Time) (Shipment, error) {
	s := Shipment{
		OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, ID: id, State: Voided, CreatedAt: at.UTC(), UpdatedAt: at.UTC(),
	}
	if known != nil {
		s = *known
	}
	switch {
	case s.State == Arranged && !r.Found:
		return Shipment{}, fault.Permanentf("order %s is arranged (%s), but the carrier knows no such parcel", s.OrderID, s.TrackingNumber)
	case s.State == Arranged && r.TrackingNumber != s.TrackingNumber:
		return Shipment{}, fault.Permanentf("order %s is arranged as %s, but the carrier cancelled %s", s.OrderID, s.TrackingNumber, r.TrackingNumber)
	case r.Found && s.State != Cancelled:
		s.State, s.Carrier, s.TrackingNumber, s.UpdatedAt = Cancelled, r.Carrier, r.TrackingNumber, at.UTC()
	}
	return s, nil
}
