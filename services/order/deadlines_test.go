package order_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/order"
)

// commits plays what participants' consumer groups have read until the test ends: next says, in each round, which offset
// of a partition is the next one.
func commits(t *testing.T, s *testkit.Stack, next func(round int64, r kafka.Range) int64, groups map[string]string) {
	t.Helper()
	admin, err := kafka.NewAdmin(kafka.Config{Brokers: s.Brokers(), ClientID: "participants"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for round := int64(0); ctx.Err() == nil; round++ {
			for group, topic := range groups {
				ranges, err := admin.Ranges(ctx, topic)
				if err != nil {
					continue // the next round will tell
				}
				all := map[int32]kafka.Commit{}
				for p, r := range ranges {
					all[p] = kafka.Commit{Offset: next(round, r)}
				}
				_ = admin.Commit(ctx, group, topic, all)
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		require.NoError(t, admin.Close())
	})
}

// participantsRead has the participants read whatever they are sent; that they answer is the test's to do.
func participantsRead(t *testing.T, s *testkit.Stack) {
	t.Helper()
	commits(t, s, func(_ int64, r kafka.Range) int64 { return r.End }, map[string]string{
		"inventory": events.TopicInventoryCommands, "payment": events.TopicPaymentCommands, "shipping": events.TopicShippingCommands,
	})
}

// placeAndStop places an order and stops the service before the order's deadline, which it returns.
func placeAndStop(t *testing.T, s *testkit.Stack, settings ...string) (id string, command event.Event, deadline time.Duration, until time.Time) {
	t.Helper()
	for deadline = 500 * time.Millisecond; ; deadline *= 2 { // for a machine that is slower than the deadline
		svc := testkit.Run(s, "order", order.Run, append(settings, fmt.Sprint("SAGA_STEP_DEADLINE=", deadline))...)
		id = place(t, svc, fmt.Sprint("k", deadline))
		command, _ = testkit.Await[events.InventoryReserve](s, id, 1)
		var timeline orderapi.Timeline
		require.Equal(t, http.StatusOK, svc.Get("/v1/orders/"+id+"/timeline", &timeline))
		svc.Stop()
		if step := timeline.Steps[0]; step.Deadline != nil && len(s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id)) == 0 {
			return id, command, deadline, *step.Deadline
		}
	}
}

func waitUntil(s *testkit.Stack, at time.Time) {
	testkit.Until(s, "time passes", func() bool { return time.Now().After(at) })
}

// TestAnswersThatWaitAreNotTimeouts: a deadline that passed while the service was down does not fire before the answers that
// came meanwhile are read.
func TestAnswersThatWaitAreNotTimeouts(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		s := testkit.Start(t, kafka.Topics(events.TopicsOf("order")))
		participantsRead(t, s)
		id, command, deadline, until := placeAndStop(t, s, "DATABASE_URL="+url)
		reply(s, command, id, events.InventoryReserved{OrderID: id, Lines: events.List[events.Line]{{SKU: "MUG-BLUE", Quantity: 2}, {SKU: "SPOON-SET", Quantity: 1}}})
		waitUntil(s, until)

		testkit.Run(s, "order", order.Run, "DATABASE_URL="+url, "SAGA_TIMER_POLL=10ms", fmt.Sprint("SAGA_STEP_DEADLINE=", deadline))
		testkit.Await[events.PaymentCharge](s, id, 1)
		require.Empty(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id))
	})
}

// TestAnswersThatAreParkedAreNotTimeouts: while an answer waits behind one that is a dead letter, its order's deadline does
// not count, however long that takes; once the letter is discarded the answer does.
func TestAnswersThatAreParkedAreNotTimeouts(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		s := testkit.Start(t, kafka.Topics(events.TopicsOf("order")))
		participantsRead(t, s)
		id, command, deadline, until := placeAndStop(t, s, "DATABASE_URL="+url)
		lines := events.List[events.Line]{{SKU: "MUG-BLUE", Quantity: 2}, {SKU: "SPOON-SET", Quantity: 1}}
		broken, err := event.NewFactory("/test").New(t.Context(), events.TypeInventoryReserved, id, events.InventoryReserved{OrderID: id, Lines: lines})
		require.NoError(t, err)
		broken.Data = []byte(`{"order_id": 7}`)
		s.Resend(events.TopicInventoryReserved, broken)
		reply(s, command, id, events.InventoryReserved{OrderID: id, Lines: lines})
		waitUntil(s, until)

		svc := testkit.Run(s, "order", order.Run, "DATABASE_URL="+url, "SAGA_TIMER_POLL=10ms", fmt.Sprint("SAGA_STEP_DEADLINE=", deadline))
		testkit.Until(s, "the answer waits", func() bool { return svc.Metric(`parked_messages{group="order"}`) == 2 })
		// Deadlines are looked at in their order, so this one has been when a later one fires.
		later := place(t, svc, "later")
		testkit.Await[events.InventoryRelease](s, later, 1)
		require.Empty(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id))

		var found parked
		require.Equal(t, http.StatusOK, svc.Get("/admin/parked?key="+id, &found))
		require.Len(t, found.Items, 1)
		require.Equal(t, "blocked", found.Items[0].State)
		resp, body := svc.Post("/admin/dead-letters/"+found.Items[0].Letter+"/discard", map[string]string{"actor": "tester", "reason": "it is broken"})
		require.Equal(t, http.StatusOK, resp.StatusCode, body)
		testkit.Await[events.PaymentCharge](s, id, 1)
		require.Empty(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id))
	})
}

// parked is a page of keys that wait.
type parked struct {
	Items []struct{ State, Letter string }
}

// TestDeadlineFiresOnceAfterARestart: a deadline that passed while the service was down fires when it is back, once, however
// many replicas there are.
func TestDeadlineFiresOnceAfterARestart(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		s := testkit.Start(t, kafka.Topics(events.TopicsOf("order")))
		participantsRead(t, s)
		id, _, deadline, until := placeAndStop(t, s, "DATABASE_URL="+url)
		waitUntil(s, until)

		var replicas []*testkit.Service
		for range 3 {
			replicas = append(replicas, testkit.Launch(s, "order", order.Run, "DATABASE_URL="+url, "SAGA_TIMER_POLL=10ms", fmt.Sprint("SAGA_STEP_DEADLINE=", deadline)))
		}
		testkit.Await[events.InventoryRelease](s, id, 1)
		// Whoever looked at it too has done so when a later deadline has fired.
		testkit.EventuallyStatus(replicas[0], "/readyz", http.StatusOK)
		later := place(t, replicas[0], "later")
		testkit.Await[events.InventoryRelease](s, later, 1)
		fired := 0.0
		for _, svc := range replicas {
			fired += svc.Metric(`saga_deadlines_fired_total{command="do",definition="order"}`)
		}
		require.InDelta(t, 2, fired, 0)
		require.Len(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id), 1)
	})
}

// TestBehindIsNotSilent: while a participant works through what was sent before, no deadline fires for what waits behind
// that; when it stops, the deadline does.
func TestBehindIsNotSilent(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, kafka.Topics(events.TopicsOf("order")))
	const backlog, deadline = 300, time.Second
	ranges := func() int {
		n := 0
		for _, r := range s.Records(events.TopicInventoryCommands) {
			n = max(n, int(r.Offset)+1)
		}
		return n
	}
	for i := range backlog { // of one key, so in one partition; the order is put behind it there
		s.SendRaw(kafka.Record{Topic: events.TopicInventoryCommands, Key: []byte("before"), Value: []byte(fmt.Sprint(i))})
	}
	testkit.Until(s, "the backlog is there", func() bool { return ranges() == backlog })
	var stopped atomic.Int64 // the round in which the participant stops
	stopped.Store(backlog - 1)
	commits(t, s, func(round int64, _ kafka.Range) int64 {
		stopped.CompareAndSwap(0, round)
		return min(round, stopped.Load())
	}, map[string]string{"inventory": events.TopicInventoryCommands})
	svc := testkit.Run(s, "order", order.Run, "SAGA_TIMER_POLL=10ms", fmt.Sprint("SAGA_STEP_DEADLINE=", deadline))
	id := placeBehind(t, s, svc, backlog)
	waitUntil(s, time.Now().Add(2*deadline))
	require.Empty(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id))
	stopped.Store(0)
	testkit.Await[events.InventoryRelease](s, id, 1)
}

// placeBehind places orders until one's command is behind the backlog.
func placeBehind(t *testing.T, s *testkit.Stack, svc *testkit.Service, backlog int64) string {
	t.Helper()
	for i := 0; ; i++ {
		id := place(t, svc, fmt.Sprint("behind", i))
		testkit.Await[events.InventoryReserve](s, id, 1)
		for _, r := range s.Records(events.TopicInventoryCommands) {
			if string(r.Key) == id && r.Offset >= backlog {
				return id
			}
		}
	}
}
