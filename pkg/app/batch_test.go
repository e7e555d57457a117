package app_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// From topic to topic under load, with a poison message and one that works later in the midst.
func TestUnderLoadMessagesShareTransactions(t *testing.T) {
	t.Parallel()
	const n = 600
	reached, open := make(chan struct{}), make(chan struct{})
	a := &adder{handle: func(attempt int, e event.Event) error { // under a's lock
		switch e.Key {
		case "gate":
			if attempt == 1 {
				close(reached)
			}
			<-open
		case "k100":
			return fault.Permanentf("poison")
		case "k200":
			if attempt < 3 {
				return errors.New("not now")
			}
		}
		return nil
	}}
	s, svc := start(t, a)
	s.Send("/test", "gate", numberGiven{N: 1})
	<-reached // alone in its transaction
	all := make([]event.Addressed, n)
	for i := range all {
		e, err := event.NewFactory("/test").New(t.Context(), "number.given", fmt.Sprint("k", i), numberGiven{N: int64(i)})
		require.NoError(t, err)
		all[i] = event.Addressed{Topic: "numbers", Event: e}
	}
	s.SendAll(all)
	testkit.Until(s, "many wait", func() bool { return svc.Metric(`consumer_batch_waiting{group="adder"}`) > n/2 })
	close(open)

	awaitLetters(svc, waiting)
	letters := s.Records(deadletter.Topic("adder"))
	require.Len(t, letters, 1)
	require.Equal(t, "k100", string(letters[0].Key))
	for i, a := range all {
		if a.Event.Key == "k100" {
			continue
		}
		e, body := testkit.Await[sumChanged](s, a.Event.Key, 1)
		require.EqualValues(t, i, body.Total)
		require.Equal(t, a.Event.ID, e.CausationID)
		require.Equal(t, a.Event.CorrelationID, e.CorrelationID)
		require.Len(t, s.Messages("sums", "sum.changed", a.Event.Key), 1)
	}
	require.EqualValues(t, n, svc.Metric(`consumer_batch_size_sum{group="adder"}`), "the gate and all but one")
	require.Less(t, svc.Metric(`consumer_batch_size_count{group="adder"}`), float64(n/10), "transactions")
}
