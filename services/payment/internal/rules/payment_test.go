package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

var (
	at    = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	price = events.Money{Amount: 2500, Currency: "EUR"}
	pay   = events.PaymentCharge{OrderID: "order-1", CustomerID: "cust-42", Amount: price, PaymentMethod: "tok"}
	back  = events.PaymentRefund{OrderID: "order-1", CustomerID: "cust-42", Amount: price}
)

// outside is a provider that keeps its promise, for one key.
type outside struct {
	declines                      bool
	charged, refunded, off, asked bool
}

func (o *outside) charge() rules.Outcome {
	switch {
	case o.refunded || o.off:
		return rules.Outcome{State: rules.Voided}
	case o.declines:
		o.asked = true
		return rules.Outcome{State: rules.Declined, Failure: events.NewReason("card_declined", "")}
	}
	o.charged = true
	return rules.Outcome{State: rules.Charged, Reference: "ch_1"}
}

func (o *outside) refund() rules.Reversal {
	switch {
	case o.charged:
		o.refunded = true
		return rules.Reversal{Found: true, Amount: price, Reference: "re_1"}
	case !o.asked:
		o.off = true
	}
	return rules.Reversal{}
}

// Whatever the order of charges and refunds, and however often one of them is lost between the provider and the
// database, the books agree with the provider's once the last of each has gone through.
func TestBooksAgreeWithTheProvider(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := &outside{declines: rapid.Bool().Draw(t, "declines")}
		var known *rules.Payment
		run := func(charges, commits bool) {
			var p rules.Payment
			var err error
			if charges {
				var outcome rules.Outcome
				if known == nil {
					outcome = o.charge()
				}
				p, err = rules.Charge(known, pay, outcome, "pay-1", at)
			} else {
				var reversal rules.Reversal
				if known == nil || known.State != rules.Refunded {
					reversal = o.refund()
				}
				p, err = rules.Refund(known, back, reversal, "pay-1", at)
			}
			require.NoError(t, err)
			if commits {
				known = &p
			}
		}
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			run(rapid.Bool().Draw(t, "charges"), rapid.Bool().Draw(t, "commits"))
		}
		run(true, true)
		run(false, true)
		require.Equal(t, o.charged, known.State == rules.Refunded)
		require.Equal(t, o.charged, o.refunded)
		require.LessOrEqual(t, known.Refunded, known.Amount.Amount)
		if o.charged {
			require.Equal(t, price, known.Amount)
			require.Equal(t, price.Amount, known.Refunded)
		}
	})
}

func TestWhatCannotBeTrueIsPermanent(t *testing.T) {
	t.Parallel()
	charged := rules.Outcome{State: rules.Charged, Reference: "ch_2"}
	in := func(state rules.State) *rules.Payment {
		return &rules.Payment{OrderID: "order-1", State: state, Amount: price, Reference: "ch_1"}
	}
	for name, f := range map[string]func() error{
		"charged what was declined": func() error { _, err := rules.Charge(in(rules.Declined), pay, charged, "", at); return err },
		"charged what was voided":   func() error { _, err := rules.Charge(in(rules.Voided), pay, charged, "", at); return err },
		"another sum": func() error {
			other := pay
			other.Amount.Amount = 1
			_, err := rules.Charge(in(rules.Charged), other, rules.Outcome{}, "", at)
			return err
		},
		"nothing to refund": func() error { _, err := rules.Refund(in(rules.Charged), back, rules.Reversal{}, "", at); return err },
		"refunded another sum": func() error {
			_, err := rules.Refund(in(rules.Charged), back, rules.Reversal{Found: true, Amount: events.Money{Amount: 1, Currency: "EUR"}}, "", at)
			return err
		},
	} {
		err := f()
		require.Error(t, err, name)
		require.Equal(t, fault.Permanent, fault.KindOf(err), name)
	}
}
