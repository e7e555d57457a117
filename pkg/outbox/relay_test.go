package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

const (
	soon  = 20 * time.Second // a deadline, never waited for in full
	tick  = 2 * time.Millisecond
	never = time.Hour
)

// broker is a topic that remembers what it was given, in order.
type broker struct {
	mu  sync.Mutex
	log []event.Addressed
}

func (b *broker) deliver(batch ...event.Addressed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, batch...)
}

// first returns the numbers of each key in the order of their first delivery.
func (b *broker) first(t testing.TB) map[string][]int {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	seen, byKey := map[string]bool{}, map[string][]int{}
	for _, a := range b.log {
		if seen[a.Event.ID] {
			continue
		}
		seen[a.Event.ID] = true
		var body done
		require.NoError(t, json.Unmarshal(a.Event.Data, &body))
		byKey[a.Event.Key] = append(byKey[a.Event.Key], body.N)
	}
	return byKey
}

func (b *broker) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.log)
}

// senderFunc is a Sender.
type senderFunc func(ctx context.Context, batch []event.Addressed) []error

func (f senderFunc) SendBatch(ctx context.Context, batch []event.Addressed) []error {
	return f(ctx, batch)
}

func (b *broker) sender() senderFunc {
	return func(_ context.Context, batch []event.Addressed) []error {
		b.deliver(batch...)
		return nil
	}
}

// run runs the relay until stop is called or the test ends.
func run(t testing.TB, r *outbox.Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(soon):
			t.Error("Run did not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// clock is a clock that a test turns.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestCommitWakesTheRelay(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Poll: never, LeaseTTL: never}))
		require.Eventually(t, func() bool { return held(t, db)["shard-0"] != "" }, soon, tick)
		require.Never(t, func() bool { return b.len() > 0 }, 50*time.Millisecond, tick)
		// It has found nothing and would look again in an hour: nothing but the commit can tell it.
		publish(t, box, "a", 1, 2)
		require.Eventually(t, func() bool { return b.len() == 2 && rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, []int{1, 2}, b.first(t)["a"])
	})
}

// What another replica committed is found without a wake, and soon while there is more of it.
func TestAnotherReplicasRowsAreFound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, other, b := newBox(db, outbox.Options{}), newBox(db, outbox.Options{}), &broker{}
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Poll: never}))
		publish(t, box, "a", 1)
		for i := 1; i <= 3; i++ {
			require.Eventually(t, func() bool { return b.len() == i }, soon, tick)
			publish(t, other, "a", i+1)
		}
	})
}

func TestEventArrivesAsItWasPublished(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		var published event.Event
		forwarded := event.Event{
			ID: "id", Type: "t", Source: "/s", Key: "k", Time: time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC), CorrelationID: "c",
			Data: json.RawMessage(`{"ü":"\u0000"}`), Extra: map[string]string{"x": "\"1\""},
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		}
		require.NoError(t, box.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) (err error) {
			published, err = tx.Publish(ctx, "a", done{N: 1})
			tx.Forward(event.Addressed{Topic: "elsewhere", Event: forwarded})
			return err
		}))
		run(t, box.Relay(b.sender(), outbox.RelayOptions{}))
		require.Eventually(t, func() bool { return b.len() == 2 }, soon, tick)
		require.Equal(t, []event.Addressed{{Topic: "work.done", Event: published}, {Topic: "elsewhere", Event: forwarded}}, b.log)
	})
}

// promised makes a Sender of what becomes of each event alone, that keeps Sender's promise: behind an event that is not
// sent, none of its topic and key is.
func promised(one func(a event.Addressed) error) senderFunc {
	return func(_ context.Context, batch []event.Addressed) []error {
		errs, stopped := make([]error, len(batch)), map[[2]string]error{}
		for i, a := range batch {
			lane := [2]string{a.Topic, a.Event.Key}
			if errs[i] = stopped[lane]; errs[i] == nil {
				errs[i] = one(a)
			}
			if errs[i] != nil {
				stopped[lane] = errs[i]
			}
		}
		return errs
	}
}

// Invariant 4: a failed row is not overtaken by the next of its key, in its batch or a later one.
func TestFailedRowIsNotOvertaken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		failures := 3
		send := promised(func(a event.Addressed) error {
			if a.Event.Key == "a" && failures > 0 {
				failures--
				return fault.Unavailablef("no leader")
			}
			b.deliver(a)
			return nil
		})
		publish(t, box, "a", 1, 2, 3)
		publish(t, box, "b", 1, 2)
		publish(t, box, "a", 4)
		run(t, box.Relay(send, outbox.RelayOptions{Limit: 3, BackoffInitial: tick, BackoffMax: tick}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, map[string][]int{"a": {1, 2, 3, 4}, "b": {1, 2}}, b.first(t))
		require.Equal(t, 6, b.len())
	})
}

// Rows of one key that wait together go together, also when some of them fail.
func TestHotKeyGoesInFewBatches(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		const n = 10_000
		ns := make([]int, n)
		for i := range ns {
			ns[i] = i
		}
		publish(t, box, "hot", ns...)
		calls, fails := 0, map[int]int{0: 1, 1234: 2, 7777: 1, n - 1: 1}
		send := promised(func(a event.Addressed) error {
			var body done
			if err := json.Unmarshal(a.Event.Data, &body); err != nil {
				return err
			}
			if fails[body.N] > 0 {
				fails[body.N]--
				return errors.New("lost")
			}
			b.deliver(a)
			return nil
		})
		stop := run(t, box.Relay(senderFunc(func(ctx context.Context, batch []event.Addressed) []error {
			calls++
			return send(ctx, batch)
		}), outbox.RelayOptions{BackoffInitial: tick, BackoffMax: tick}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		stop()
		require.Equal(t, ns, b.first(t)["hot"])
		require.Equal(t, n, b.len(), "none went twice")
		require.LessOrEqual(t, calls, n/database.MaxRows+20)
	})
}

// A sender that breaks its promise: what it acknowledged is gone, and is not sent again.
func TestSenderThatReorders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		var log strings.Builder
		box, b := newBox(db, outbox.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}), &broker{}
		publish(t, box, "a", 1, 2, 3, 4)
		first := true
		stop := run(t, box.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			if !first {
				b.deliver(batch...)
				return nil
			}
			first = false
			b.deliver(batch[1], batch[3])
			return []error{errors.New("lost"), nil, errors.New("lost"), nil}
		}), outbox.RelayOptions{BackoffInitial: tick}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		stop()
		require.Equal(t, []int{2, 4, 1, 3}, b.first(t)["a"])
		require.Equal(t, 4, b.len())
		require.Equal(t, 1, strings.Count(log.String(), "their order is lost"), log.String())
	})
}

// A key that cannot be sent, however long its queue, does not hide the keys behind it.
func TestStuckKeysDoNotHideOthers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		send := func(_ context.Context, batch []event.Addressed) []error {
			errs := make([]error, len(batch))
			for i, a := range batch {
				if strings.HasPrefix(a.Event.Key, "stuck") {
					errs[i] = fault.Permanentf("unknown topic")
				} else {
					b.deliver(a)
				}
			}
			return errs
		}
		ns := make([]int, 300)
		publish(t, box, "stuck", ns...)
		for i := range 20 {
			publish(t, box, fmt.Sprint("stuck", i), 1)
		}
		publish(t, box, "free", 1, 2)
		run(t, box.Relay(senderFunc(send), outbox.RelayOptions{Limit: 4, BackoffInitial: tick, BackoffMax: never}))
		require.Eventually(t, func() bool { return b.len() == 2 }, soon, tick)
		require.Equal(t, map[string][]int{"free": {1, 2}}, b.first(t))
		require.Eventually(t, func() bool { return rowCount(t, db) == 320 }, soon, tick, "nothing else is dropped")
	})
}

func TestRowsThatCannotBeReadHoldNothingUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO outbox (id, aggregatetype, aggregateid, type, topic, headers, payload, created_at)
				VALUES ('x', 'x', 'x', 'x', 'work.done', 'no json', '', $1)`, time.Now())
			return err
		}))
		publish(t, box, "x", 1) // behind it
		publish(t, box, "a", 1)
		run(t, box.Relay(b.sender(), outbox.RelayOptions{}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 2 && b.len() == 1 }, soon, tick)
		require.Equal(t, map[string][]int{"a": {1}}, b.first(t))

		// Somebody deletes it: what is behind it goes.
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id = 'x'`)
			return err
		}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, map[string][]int{"a": {1}, "x": {1}}, b.first(t))
	})
}

func TestStopIsBoundedWhateverTheSenderDoes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{})
		publish(t, box, "k", 1)
		has, free := make(chan struct{}), make(chan struct{})
		ended := make(chan struct{})
		stop := run(t, box.Relay(senderFunc(func(context.Context, []event.Addressed) []error {
			close(has)
			<-free // whatever ctx says
			close(ended)
			return nil
		}), outbox.RelayOptions{StopTimeout: tick}))
		<-has
		start := time.Now()
		stop()
		require.Less(t, time.Since(start), soon/2)
		require.Equal(t, 1, rowCount(t, db), "what became of it is not known, so it stays")
		close(free)
		<-ended
	})
}

func TestBatchUnderWayIsFinished(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		publish(t, box, "k", 1)
		ctx, cancel := context.WithCancel(t.Context())
		err := box.Relay(senderFunc(func(ctx context.Context, batch []event.Addressed) []error {
			cancel()
			if ctx.Err() != nil {
				t.Error("the sender's context ended with Run's")
			}
			b.deliver(batch...)
			return nil
		}), outbox.RelayOptions{}).Run(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{1, 0}, []int{b.len(), rowCount(t, db)}, "sent and deleted, so it is not sent twice")
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		c, f := newClock(), event.NewFactory("/test")
		f.Now = c.Now
		box, b := outbox.New(db, f, outbox.Options{}), &broker{}
		reg := prometheus.NewPedanticRegistry()
		fail := errors.New("fail")
		relay := box.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			defer func() { fail = nil }()
			if fail != nil {
				return []error{fail, fail}
			}
			b.deliver(batch...)
			c.add(time.Minute)
			return nil
		}), outbox.RelayOptions{Registerer: reg, BackoffInitial: time.Nanosecond})
		publish(t, box, "a", 1)
		publish(t, box, "b", 1)
		c.add(1500 * time.Millisecond)
		gauges := func(waiting int, age float64) string {
			return fmt.Sprintf("# HELP outbox_oldest_age_seconds Age of the oldest row in the outbox, 0 when it is empty.\n"+
				"# TYPE outbox_oldest_age_seconds gauge\noutbox_oldest_age_seconds %v\n"+
				"# HELP outbox_waiting Rows in the outbox that are not sent yet, counted up to 100,000.\n"+
				"# TYPE outbox_waiting gauge\noutbox_waiting %d\n", age, waiting)
		}
		names := []string{"outbox_waiting", "outbox_oldest_age_seconds"}
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(gauges(2, 1.5)), names...))
		stop := run(t, relay)
		c.add(time.Second)
		require.Eventually(t, func() bool { c.add(time.Second); return rowCount(t, db) == 0 }, soon, tick)
		stop()
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(gauges(0, 0)), names...))
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(
			"# HELP outbox_sent_total Events from the outbox that the broker acknowledged.\n# TYPE outbox_sent_total counter\noutbox_sent_total 2\n"+
				"# HELP outbox_send_errors_total Attempts to send an event from the outbox that failed.\n# TYPE outbox_send_errors_total counter\noutbox_send_errors_total 2\n",
		), "outbox_sent_total", "outbox_send_errors_total"))
	})
}
