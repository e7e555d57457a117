package fulfilment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

func plans(t *testing.T) (current *saga.Definition, all []*saga.Definition) {
	t.Helper()
	current, all, err := Plans(Limits{Do: 30 * time.Second, Undo: 10 * time.Second, UndoAttempts: 10})
	require.NoError(t, err)
	return current, all
}

// TestGolden plays every branch of an order's saga, those of earlier plans too; each history is a file that a person
// can read.
func TestGolden(t *testing.T) {
	t.Parallel()
	_, all := plans(t)
	sagatest.Golden(t, "testdata", all...)
}

// TestProperty plays random histories against participants that act once: the books balance in the end.
func TestProperty(t *testing.T) {
	t.Parallel()
	current, _ := plans(t)
	sagatest.Property(t, current)
}

// TestCommands: for every step, doing and undoing are the commands of one participant's topic, so that they stay in
// order.
func TestCommands(t *testing.T) {
	t.Parallel()
	o := rules.Order{ID: "o-1", CustomerID: "c-1", Total: events.Money{Amount: 2500, Currency: "EUR"}, PaymentMethod: "tok",
		Lines: []rules.Line{{Product: rules.Product{SKU: "A"}, Quantity: 2}}}
	lines := []events.Line{{SKU: "A", Quantity: 2}}
	why := events.Reason{Code: "timed_out"}
	for _, tc := range []struct {
		step     string
		do, undo event.Body
	}{
		{stepReserve, events.InventoryReserve{OrderID: "o-1", Lines: lines}, events.InventoryRelease{OrderID: "o-1", Reason: why}},
		{stepCharge,
			events.PaymentCharge{OrderID: "o-1", CustomerID: "c-1", Amount: o.Total, PaymentMethod: "tok"},
			events.PaymentRefund{OrderID: "o-1", CustomerID: "c-1", Amount: o.Total, Reason: why}},
		{stepShip,
			events.ShippingArrange{OrderID: "o-1", CustomerID: "c-1", Lines: lines},
			events.ShippingCancel{OrderID: "o-1", CustomerID: "c-1", Reason: why}},
	} {
		do := command(o, saga.Command{Step: tc.step, Kind: saga.Do, Attempt: 1})
		undo := command(o, saga.Command{Step: tc.step, Kind: saga.Undo, Attempt: 1, Reason: "timed_out"})
		require.Equal(t, tc.do, do)
		require.Equal(t, tc.undo, undo)
		require.Equal(t, do.EventTopic(), undo.EventTopic())
	}
}
