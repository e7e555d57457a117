// Package rules is what a payment is and what may become of it. It knows no database, provider or clock.
package rules

import (
	"fmt"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
)

// State of a payment.
type State string

// An order is charged or declined, once and for all; a charged one can be refunded. Voided is the tombstone of a
// refund that found nothing charged: a charge that comes later is refused.
const (
	Charged  State = "charged"
	Declined State = "declined"
	Refunded State = "refunded"
	Voided   State = "voided"
)

// ReasonCancelled is why a charge is refused that comes after the order's refund.
const ReasonCancelled = "cancelled"

// Payment is what became of one order's money.
type Payment struct {
	OrderID    string
	CustomerID string
	// ID is this service's own name for it.
	ID    string
	State State
	// Amount is what was charged, or asked for and declined; 0 if voided.
	Amount events.Money
	// Refunded is how much went back, of Amount and in its currency.
	Refunded        int64
	Reference       string
	RefundReference string
	// Failure is why it was declined.
	Failure   events.Reason
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Totals sums up payments of one currency. A refunded charge counts in both.
type Totals struct {
	Currency                   string
	Charged, Refunded          int64
	Charges, Refunds, Declines int64
}

// Outcome is what the provider made of a charge: Charged, Declined, or Voided when it had been called off.
type Outcome struct {
	State     State
	Reference string
	// Failure is why it was declined.
	Failure events.Reason
}

// Reversal is what the provider made of a refund.
type Reversal struct {
	// Found is false when nothing had been charged, which is now called off for ever.
	Found     bool
	Amount    events.Money
	Reference string
}

// Charge returns the payment after the provider's answer to a charge. The first answer stands, so known, if not nil, is
// returned as it is, unless it and the answer cannot both be true.
func Charge(known *Payment, cmd events.PaymentCharge, o Outcome, id string, at time.Time) (Payment, error) {
	if known == nil {
		p := Payment{
			OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, ID: id, State: o.State, Amount: cmd.Amount,
			Reference: o.Reference, Failure: o.Failure, CreatedAt: at.UTC(), UpdatedAt: at.UTC(),
		}
		if p.State == Voided {
			p.Amount.Amount = 0
		}
		return p, nil
	}
	if o.State == Charged && (known.State == Declined || known.State == Voided) {
		return Payment{}, fault.Permanentf("order %s: the provider charged (%s) what is %s here", cmd.OrderID, o.Reference, known.State)
	}
	return *known, Matches(*known, cmd)
}

// Matches returns a permanent error if cmd wants another amount than the one that p was decided for.
func Matches(p Payment, cmd events.PaymentCharge) error {
	if (p.State == Charged || p.State == Declined) && p.Amount != cmd.Amount {
		return fault.Permanentf("order %s is %s for %s and cannot be charged %s", p.OrderID, p.State, text(p.Amount), text(cmd.Amount))
	}
	return nil
}

// Refund returns the payment after the provider's answer to a refund. The provider's word on what had been charged
// counts, because a charge whose answer was lost is known only to it.
func Refund(known *Payment, cmd events.PaymentRefund, r Reversal, id string, at time.Time) (Payment, error) {
	p := Payment{
		OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, ID: id, State: Voided,
		Amount: events.Money{Currency: cmd.Amount.Currency}, CreatedAt: at.UTC(), UpdatedAt: at.UTC(),
	}
	if known != nil {
		p = *known
	}
	switch {
	case p.State == Charged && !r.Found:
		return Payment{}, fault.Permanentf("order %s is charged (%s), but the provider knows no such charge", p.OrderID, p.Reference)
	case p.State == Charged && r.Amount != p.Amount:
		return Payment{}, fault.Permanentf("order %s is charged %s, but the provider gave back %s", p.OrderID, text(p.Amount), text(r.Amount))
	case r.Found && p.State != Refunded:
		p.State, p.Amount, p.Refunded, p.RefundReference = Refunded, r.Amount, r.Amount.Amount, r.Reference
		p.UpdatedAt = at.UTC()
	}
	return p, nil
}

func text(m events.Money) string { return fmt.Sprintf("%d %s", m.Amount, m.Currency) }
