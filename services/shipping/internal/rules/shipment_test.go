package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
)

var (
	at   = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	send = events.ShippingArrange{OrderID: "order-1", CustomerID: "cust-42"}
	back = events.ShippingCancel{OrderID: "order-1", CustomerID: "cust-42"}
)

// outside is a carrier that keeps its promise, for one key.
type outside struct {
	refuses                         bool
	arranged, cancelled, off, asked bool
}

func (o *outside) arrange() rules.Outcome {
	switch {
	case o.cancelled || o.off:
		return rules.Outcome{State: rules.Voided}
	case o.refuses:
		o.asked = true
		return rules.Outcome{State: rules.Refused, Failure: events.NewReason("region_not_served", "")}
	}
	o.arranged = true
	return rules.Outcome{State: rules.Arranged, Carrier: "c", TrackingNumber: "T1"}
}

func (o *outside) cancel() rules.Recall {
	switch {
	case o.arranged:
		o.cancelled = true
		return rules.Recall{Found: true, Carrier: "c", TrackingNumber: "T1"}
	case !o.asked:
		o.off = true
	}
	return rules.Recall{}
}

// Whatever the order of arrangements and cancellations, and however often one of them is lost between the carrier and
// the database, the books agree with the carrier's once the last of each has gone through.
func TestBooksAgreeWithTheCarrier(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := &outside{refuses: rapid.Bool().Draw(t, "refuses")}
		var known *rules.Shipment
		run := func(arranges, commits bool) {
			var s rules.Shipment
			var err error
			if arranges {
				var outcome rules.Outcome
				if known == nil {
					outcome = o.arrange()
				}
				s, err = rules.Arrange(known, send, outcome, "shp-1", at)
			} else {
				var recall rules.Recall
				if known == nil || known.State != rules.Cancelled {
					recall = o.cancel()
				}
				s, err = rules.Cancel(known, back, recall, "shp-1", at)
			}
			require.NoError(t, err)
			if commits {
				known = &s
			}
		}
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			run(rapid.Bool().Draw(t, "arranges"), rapid.Bool().Draw(t, "commits"))
		}
		run(true, true)
		run(false, true)
		require.Equal(t, o.arranged, known.State == rules.Cancelled)
		require.Equal(t, o.arranged, o.cancelled)
		require.Equal(t, o.arranged, known.TrackingNumber == "T1")
	})
}

func TestWhatCannotBeTrueIsPermanent(t *testing.T) {
	t.Parallel()
	arranged := rules.Outcome{State: rules.Arranged, Carrier: "c", TrackingNumber: "T2"}
	in := func(state rules.State) *rules.Shipment {
		return &rules.Shipment{OrderID: "order-1", State: state, TrackingNumber: "T1"}
	}
	for name, f := range map[string]func() error{
		"arranged what was refused": func() error { _, err := rules.Arrange(in(rules.Refused), send, arranged, "", at); return err },
		"arranged what was voided":  func() error { _, err := rules.Arrange(in(rules.Voided), send, arranged, "", at); return err },
		"nothing to cancel":         func() error { _, err := rules.Cancel(in(rules.Arranged), back, rules.Recall{}, "", at); return err },
		"cancelled another": func() error {
			_, err := rules.Cancel(in(rules.Arranged), back, rules.Recall{Found: true, TrackingNumber: "T2"}, "", at)
			return err
		},
	} {
		err := f()
		require.Error(t, err, name)
		require.Equal(t, fault.Permanent, fault.KindOf(err), name)
	}
}
