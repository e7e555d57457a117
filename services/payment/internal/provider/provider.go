// Package provider is the port to whoever moves the money.
//
// An implementation promises, and package providertest checks:
//
//   - a charge is made at most once a key, however often it is asked for and whatever became of the answers; asking
//     again answers what the first did, a decline too;
//   - a refund gives back all that was charged under a key, once, and answers the same when asked again;
//   - a refund that finds nothing charged calls the key off: a charge under it is refused for ever after. So is one
//     under a key that was refunded;
//   - an error that is none of those below is marked by package fault and leaves the outcome unknown: ask again.
//
// A provider that is away is transient, never unavailable: the messages of other orders go on, and a charge that
// cannot be had in time is the order's problem, not the service's.
package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/api/events"
)

// Provider charges and refunds.
type Provider interface {
	// Charge returns a *Declined error when the provider will not, and ErrCalledOff after Refund of the same key.
	Charge(ctx context.Context, r ChargeRequest) (Charge, error)
	// Refund gives back what is under r.ChargeKey, or calls that key off.
	Refund(ctx context.Context, r RefundRequest) (Refund, error)
}

// ChargeRequest asks for a charge.
type ChargeRequest struct {
	// Key makes the charge one: 1 to 100 letters, digits, - and _.
	Key    string
	Amount events.Money
	// Method is the token of the customer's payment method.
	Method string
}

// Charge is a charge that was made.
type Charge struct {
	// Reference is the provider's name for it, 1 to 128 characters.
	Reference string
}

// RefundRequest asks for a refund.
type RefundRequest struct {
	// Key makes the refund one.
	Key string
	// ChargeKey is the key of the charge that goes back.
	ChargeKey string
}

// Refund is the answer to a refund.
type Refund struct {
	// Found is false when nothing had been charged; then the other fields are empty.
	Found     bool
	Amount    events.Money
	Reference string
}

// ErrCalledOff: a refund came first.
var ErrCalledOff = errors.New("the charge was called off before")

// Declined is a charge that will not be made; nothing was charged.
type Declined struct {
	// Code is for programs, in the form of events.Reason.
	Code string
	// Detail is for people.
	Detail string
}

// Error is the code and the detail.
func (d *Declined) Error() string { return fmt.Sprintf("declined (%s): %s", d.Code, d.Detail) }

// InvalidMethod is the code of a decline because nobody issued the payment method's token.
const InvalidMethod = "invalid_payment_method"
