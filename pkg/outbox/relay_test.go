package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
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
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Poll: never}))
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox_lease`).Scan(&n))
			return n == 1
		}, soon, tick)
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

// Invariant 4: a batch holds one row a key, so a failed row is not overtaken by the next of its key.
func TestFailedRowIsNotOvertaken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		failures := 3
		send := func(_ context.Context, batch []event.Addressed) []error {
			errs, keys := make([]error, len(batch)), map[string]bool{}
			for i, a := range batch {
				if keys[a.Topic+a.Event.Key] {
					t.Errorf("two rows of key %s in one batch", a.Event.Key)
				}
				keys[a.Topic+a.Event.Key] = true
				if a.Event.Key == "a" && failures > 0 {
					failures--
					errs[i] = fault.Unavailablef("no leader")
					continue
				}
				b.deliver(a)
			}
			return errs
		}
		publish(t, box, "a", 1, 2, 3)
		publish(t, box, "b", 1, 2)
		publish(t, box, "a", 4)
		run(t, box.Relay(senderFunc(send), outbox.RelayOptions{BackoffInitial: tick, BackoffMax: tick}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, map[string][]int{"a": {1, 2, 3, 4}, "b": {1, 2}}, b.first(t))
		require.Equal(t, 6, b.len())
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
				VALUES ('x', 'x', 'x', 'x', 'x', 'no json', '', $1)`, time.Now())
			return err
		}))
		publish(t, box, "a", 1)
		run(t, box.Relay(b.sender(), outbox.RelayOptions{}))
		require.Eventually(t, func() bool { return rowCount(t, db) == 1 && b.len() == 1 }, soon, tick)
	})
}

// A relay that died in the middle of a batch: its lease runs out, another sends the same row and those behind it. When
// the dead one turns out to be alive, its late delivery is a double, and it deletes nothing.
func TestDeposedRelayDoublesAndNeverReorders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		b, c := &broker{}, newClock()
		boxA, boxB := newBox(db, outbox.Options{}), newBox(db, outbox.Options{})
		publish(t, boxA, "k", 1, 2)

		has, goOn := make(chan struct{}, 1), make(chan struct{})
		a := boxA.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			has <- struct{}{}
			<-goOn
			b.deliver(batch...)
			return nil
		}), outbox.RelayOptions{Owner: "a", Now: c.Now, Poll: tick, LeaseTTL: never})
		stopA := run(t, a)
		<-has

		second := boxB.Relay(b.sender(), outbox.RelayOptions{Owner: "b", Now: c.Now, Poll: tick, LeaseTTL: never})
		stopB := run(t, second)
		require.Never(t, func() bool { return b.len() > 0 }, 50*time.Millisecond, tick, "the lease is a's")
		c.add(never + time.Second)
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, map[string][]int{"k": {1, 2}}, b.first(t))

		// A row appears while nobody but a would delete it.
		stopB()
		c.add(-time.Hour) // a's own lease seems good to it
		publish(t, boxB, "other", 1)
		close(goOn)
		require.Eventually(t, func() bool { return b.len() >= 3 }, soon, tick)
		stopA()
		require.Equal(t, []int{1, 2}, b.first(t)["k"])
	})
}

// The guard itself: what a deposed relay was told to delete is still there.
func TestDeposedRelayDeletesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		publish(t, box, "k", 1)
		deposed := make(chan struct{})
		stop := run(t, box.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			b.deliver(batch...)
			require.NoError(t, db.InTx(context.Background(), func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET owner = 'another', fence = fence + 1`)
				return err
			}))
			close(deposed) // a second batch would panic here
			return nil
		}), outbox.RelayOptions{Owner: "a", Poll: tick}))
		<-deposed
		require.Never(t, func() bool { return b.len() != 1 }, 50*time.Millisecond, tick)
		stop()
		require.Equal(t, 1, rowCount(t, db))
		var owner string
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT owner FROM outbox_lease WHERE until > $1`, time.Now()).Scan(&owner))
		require.Equal(t, "another", owner, "nor does it give back what is not its own")
	})
}

func TestStoppedRelayIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		stop := run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "a", LeaseTTL: never}))
		publish(t, box, "k", 1)
		require.Eventually(t, func() bool { return b.len() == 1 }, soon, tick)
		stop()
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "b", LeaseTTL: never}))
		publish(t, box, "k", 2)
		require.Eventually(t, func() bool { return b.len() == 2 }, soon, tick)
	})
}

// A process that was killed and starts again under its name does not wait for its own lease to run out.
func TestRestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		publish(t, box, "k", 1)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ('relay', 'pod-0', 7, $1)`, time.Now().Add(never))
			return err
		}))
		stop := run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "pod-1"}))
		require.Never(t, func() bool { return b.len() > 0 }, 50*time.Millisecond, tick)
		stop()
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "pod-0"}))
		require.Eventually(t, func() bool { return b.len() == 1 }, soon, tick)
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

// Invariant 4 under random transactions, failures of every kind and relays that take the lease from each other: every
// event arrives, and each key's first deliveries are in order of commit.
func TestOrderUnderRandomFailures(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, migrations)
		rapid.Check(t, func(rt *rapid.T) {
			b := &broker{}
			var mu sync.Mutex
			fates := rapid.SliceOfN(rapid.SampledFrom([]string{"sent", "sent", "sent", "lost", "lost", "late", "told wrong"}), 40, 40).Draw(rt, "fates")
			steals := rapid.SliceOfN(rapid.Bool(), 10, 10).Draw(rt, "steals")
			send := func(ctx context.Context, batch []event.Addressed) []error {
				mu.Lock()
				defer mu.Unlock()
				if len(steals) > 0 {
					if steals[0] { // somebody else held it for a moment
						_ = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
							_, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET fence = fence + 1, until = $1`, time.Unix(0, 0))
							return err
						})
					}
					steals = steals[1:]
				}
				errs := make([]error, len(batch))
				for i, a := range batch {
					fate := "sent"
					if len(fates) > 0 {
						fate, fates = fates[0], fates[1:]
					}
					switch fate {
					case "lost":
						errs[i] = errors.New("lost")
					case "told wrong": // delivered, and the answer was lost
						b.deliver(a)
						errs[i] = errors.New("no answer")
					case "late": // delivered twice
						b.deliver(a, a)
					default:
						b.deliver(a)
					}
				}
				return errs
			}
			opts := outbox.RelayOptions{
				Poll: tick, Limit: rapid.IntRange(1, 5).Draw(rt, "limit"), BackoffInitial: 50 * time.Microsecond, BackoffMax: time.Millisecond,
			}
			want := map[string][]int{}
			var stops []func()
			boxes := []*outbox.Outbox{newBox(db, outbox.Options{}), newBox(db, outbox.Options{})}
			ctx, cancel := context.WithCancel(context.Background())
			for i, box := range boxes {
				opts.Owner = fmt.Sprint("relay", i)
				r, ended := box.Relay(senderFunc(send), opts), make(chan struct{})
				go func() { defer close(ended); _ = r.Run(ctx) }()
				stops = append(stops, func() { <-ended })
			}
			defer func() {
				cancel()
				for _, stop := range stops {
					stop()
				}
			}()
			n := 0
			for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
				var ns []int
				for range rapid.IntRange(1, 4).Draw(rt, "events") {
					n++
					ns = append(ns, n)
				}
				publish(t, rapid.SampledFrom(boxes).Draw(rt, "replica"), key, ns...)
				want[key] = append(want[key], ns...)
			}
			require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
			require.Equal(rt, want, b.first(t))
		})
	})
}
