package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

var by = deadletter.By{Actor: "ada", Reason: "the cause is gone"}

// group is a consumer group that gets what is redriven, and answers at once.
type group struct {
	*fixture
	mu    sync.Mutex
	calls int
	got   []string // ids, in the order in which something became of them
	next  func(r kafka.Record, n int) error
}

// SendRecord implements deadletter.Sender. What next answers becomes of the letter: handled, failed again, or not sent.
func (g *group) SendRecord(ctx context.Context, r kafka.Record) error {
	id := deadletter.ID(r.Headers)
	g.mu.Lock()
	g.calls++
	n := g.calls
	g.mu.Unlock()
	err := error(nil)
	if g.next != nil {
		err = g.next(r, n)
	}
	if err != nil && !errors.Is(err, errFailed) {
		return err
	}
	err = g.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err == nil {
			return g.MarkRedriven(ctx, tx, id)
		}
		r.Topic = deadletter.RedriveTopic("g")
		return g.Record(ctx, tx, deadletter.FromRecord(deadletter.New(r, deadletter.Failure{
			Group: "g", ErrorType: deadletter.Transient, Err: err, At: noon, // by a clock that is behind that of the first failure
		}), "g"))
	})
	if err == nil {
		g.mu.Lock()
		g.got = append(g.got, id)
		g.mu.Unlock()
	}
	return err
}

func (g *group) received() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.got...)
}

var errFailed = errors.New("it failed again")

// eachGroup runs fn on every database with n letters of t-0 that wait, of three keys.
func eachGroup(t *testing.T, n int, fn func(t *testing.T, g *group)) {
	t.Helper()
	each(t, func(t *testing.T, f *fixture) {
		g := &group{fixture: f}
		f.Store = deadletter.NewStore(f.db, g, time.Now)
		f.fill(t, 0, n)
		fn(t, g)
	})
}

// fill records letters of the offsets from and up to to.
func (f *fixture) fill(t *testing.T, from, to int) {
	t.Helper()
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		for i := from; i < to; i++ {
			at := noon.Add(time.Duration(i) * time.Second)
			if i%50 == 49 {
				at = noon // by another clock
			}
			r := kafka.Record{
				Topic: "t", Offset: int64(i), Key: fmt.Append(nil, "k", i%3), Value: fmt.Append(nil, i), Timestamp: at,
				Headers: map[string]string{"ce_id": fmt.Sprint("m", i)},
			}
			// The later record failed first.
			l := deadletter.FromRecord(deadletter.New(r, deadletter.Failure{
				Group: "g", ErrorType: deadletter.Permanent, Err: fmt.Errorf("order %d has no line", i), At: noon.Add(time.Hour - time.Duration(i)*time.Millisecond),
			}), "g")
			if err := f.Record(ctx, tx, l); err != nil {
				return err
			}
		}
		return nil
	}))
}

// run does the jobs until the test ends or stop is called.
func run(t *testing.T, s *deadletter.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx, slog.New(slog.DiscardHandler)) })
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func (g *group) over(t *testing.T, id string) deadletter.Job {
	t.Helper()
	var j deadletter.Job
	require.Eventually(t, func() bool {
		var err error
		j, err = g.Job(t.Context(), id)
		require.NoError(t, err)
		return j.Over()
	}, 30*time.Second, 5*time.Millisecond)
	return j
}

func redriveAll() deadletter.JobRequest {
	return deadletter.JobRequest{Verb: deadletter.VerbRedrive, By: by, Max: deadletter.MaxSelection}
}

func ids(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint("t-0-", i))
	}
	return all
}

// A job takes what its filter matched when it was begun, each letter once, in the order of the records for each key, and
// leaves in the audit trail whose letters it were.
func TestJobTakesAFrozenSelectionOnce(t *testing.T) {
	t.Parallel()
	const n = 300 // more than a batch
	eachGroup(t, n, func(t *testing.T, g *group) {
		j, err := g.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		require.Equal(t, n, j.Total)
		g.fill(t, n, n+10) // matches too, and came later
		_, err = g.Discard(t.Context(), "t-0-5", by)
		require.NoError(t, err)

		_, err = g.Begin(t.Context(), redriveAll())
		require.ErrorIs(t, err, deadletter.ErrBusy)
		require.ErrorContains(t, err, j.ID)
		// Two replicas share it.
		run(t, g.Store)
		run(t, deadletter.NewStore(g.db, g, time.Now))
		j = g.over(t, j.ID)
		require.Equal(t, deadletter.Done, j.State)
		require.Equal(t, []int{n, n - 1, n - 1, 0}, []int{j.Claimed, j.Taken, j.Settled, j.Failed})

		want := append(ids(0, 5), ids(6, n)...)
		require.ElementsMatch(t, want, g.received())
		last := map[int]int{}
		for _, id := range g.received() {
			var offset int
			_, err := fmt.Sscanf(id, "t-0-%d", &offset)
			require.NoError(t, err)
			require.GreaterOrEqual(t, offset, last[offset%3], "the order of a key")
			last[offset%3] = offset
		}
		waiting, err := g.List(t.Context(), deadletter.Filter{State: deadletter.Open}, deadletter.Position{}, 100)
		require.NoError(t, err)
		require.Len(t, waiting, 10)
		trail, err := g.Audit(t.Context(), deadletter.AuditFilter{Job: j.ID, Limit: 2 * n})
		require.NoError(t, err)
		require.Len(t, trail, n, "the job, and each letter that it took")
		l, err := g.Get(t.Context(), "t-0-7")
		require.NoError(t, err)
		require.Equal(t, []any{deadletter.Redriven, j.ID, by.Actor}, []any{l.State, l.Job, l.Actor})
	})
}

// A canary goes alone, and the rest behind it only when every letter of it was handled.
func TestCanary(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"holds": false, "fails": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachGroup(t, 20, func(t *testing.T, g *group) {
				handled, atOnce := atomic.Int64{}, atomic.Int64{}
				g.next = func(_ kafka.Record, n int) error {
					if n > 3 && handled.Load() < 3 {
						atOnce.Add(1)
					}
					if fails && n == 2 {
						return errFailed
					}
					handled.Add(1)
					return nil
				}
				r := redriveAll()
				r.Canary = 3
				j, err := g.Begin(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, deadletter.Canary, j.State)
				run(t, g.Store)
				j = g.over(t, j.ID)
				if fails {
					require.Equal(t, []any{deadletter.Stopped, "a letter of the canary of 3 failed again"}, []any{j.State, j.Detail})
					require.Equal(t, []int{3, 2, 1}, []int{j.Taken, j.Settled, j.Failed})
					require.ElementsMatch(t, ids(0, 3), g.received())
					return
				}
				require.Equal(t, []any{deadletter.Done, 20}, []any{j.State, j.Settled})
				require.Zero(t, atOnce.Load(), "letters that went before the canary was through")
			})
		})
	}
}

// A job stops when more letters failed again than may, with what is under way and no more.
func TestThreshold(t *testing.T) {
	t.Parallel()
	eachGroup(t, 40, func(t *testing.T, g *group) {
		g.next = func(_ kafka.Record, n int) error {
			if n > 4 {
				return errFailed
			}
			return nil
		}
		r := redriveAll()
		r.Rate, r.MaxFailures = 20, 3 // five at a time
		start := time.Now()
		j, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		run(t, g.Store)
		j = g.over(t, j.ID)
		require.GreaterOrEqual(t, time.Since(start), 250*time.Millisecond, "the rate")
		require.Equal(t, deadletter.Stopped, j.State)
		require.Equal(t, "6 letters failed again, 3 may", j.Detail)
		require.Equal(t, []int{10, 4, 6}, []int{j.Taken, j.Settled, j.Failed})
		again, err := g.List(t.Context(), deadletter.Filter{State: deadletter.FailedAgain}, deadletter.Position{}, 100)
		require.NoError(t, err)
		require.Len(t, again, 6)
		require.Equal(t, 2, again[0].Failures)
	})
}

// A replica that dies with a batch in hand leaves it to another, which waits until its time is over.
func TestJobGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	eachGroup(t, 30, func(t *testing.T, g *group) {
		var ahead atomic.Int64
		clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		hang := make(chan struct{})
		dead := deadletter.NewStore(g.db, hanging{hang}, clock)
		j, err := dead.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		ctx, kill := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = dead.Run(ctx, slog.New(slog.DiscardHandler)) })
		<-hang // it has the batch in hand, and hangs until it is dead

		heir := deadletter.NewStore(g.db, g, clock)
		stop := run(t, heir)
		again, err := heir.Job(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, []any{30, 30, deadletter.Running}, []any{again.Claimed, again.Taken, again.State})
		require.Empty(t, g.received(), "the batch is in another's hand")
		stop()
		ahead.Store(int64(time.Minute))
		run(t, heir)
		j = g.over(t, j.ID)
		require.Equal(t, []any{deadletter.Done, 30, 0}, []any{j.State, j.Settled, j.Failed})
		require.ElementsMatch(t, ids(0, 30), g.received())
		kill()
		wg.Wait()
	})
}

// hanging is a broker that does not answer.
type hanging struct{ asked chan struct{} }

func (h hanging) SendRecord(ctx context.Context, _ kafka.Record) error {
	select {
	case h.asked <- struct{}{}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// A broker that is away delays a job, and a letter that cannot be sent at all fails again by itself.
func TestJobWhoseLettersCannotBeSent(t *testing.T) {
	t.Parallel()
	eachGroup(t, 10, func(t *testing.T, g *group) {
		g.next = func(r kafka.Record, n int) error {
			switch {
			case n == 1:
				return fault.Unavailablef("the broker is away")
			case r.Headers[deadletter.HeaderOffset] == "3":
				return fault.Permanentf("too large")
			}
			return nil
		}
		r := redriveAll()
		r.MaxFailures = 1
		j, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		run(t, g.Store)
		j = g.over(t, j.ID)
		require.Equal(t, []any{deadletter.Done, 9, 1}, []any{j.State, j.Settled, j.Failed})
		l, err := g.Get(t.Context(), "t-0-3")
		require.NoError(t, err)
		require.Equal(t, deadletter.FailedAgain, l.State)
		require.Equal(t, "it cannot be sent to its group: too large", l.Error)
	})
}

// A batch is no larger than can be sent in time: large letters go few at a time.
func TestLargeLettersGoFewAtATime(t *testing.T) {
	t.Parallel()
	eachGroup(t, 10, func(t *testing.T, g *group) {
		for _, id := range ids(0, 10) {
			_, err := g.Edit(t.Context(), id, make([]byte, 1<<20), by)
			require.NoError(t, err)
		}
		claimed := make(chan int, 10)
		g.next = func(kafka.Record, int) error {
			jobs, err := g.Jobs(t.Context(), "", 1)
			if err != nil {
				return err
			}
			claimed <- jobs[0].Claimed
			return nil
		}
		j, err := g.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		run(t, g.Store)
		require.Equal(t, 10, g.over(t, j.ID).Settled)
		require.Equal(t, 8, <-claimed)
	})
}

// A job that is stopped takes no more letters, and pressing again changes nothing.
func TestStop(t *testing.T) {
	t.Parallel()
	eachGroup(t, 10, func(t *testing.T, g *group) {
		r := redriveAll()
		r.Rate = 1
		j, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		run(t, g.Store)
		require.Eventually(t, func() bool { return len(g.received()) > 0 }, time.Minute, time.Millisecond)
		for _, who := range []string{"ada", "bob"} {
			_, err = g.Stop(t.Context(), j.ID, deadletter.By{Actor: who, Reason: "enough"})
			require.NoError(t, err)
		}
		j = g.over(t, j.ID)
		require.Equal(t, deadletter.Stopped, j.State)
		require.Equal(t, "by ada: enough", j.Detail)
		require.Less(t, j.Taken, 10)
		require.Len(t, g.received(), j.Taken)
		// What it left can be taken by another.
		r.Rate, r.Verb = 0, deadletter.VerbDiscard
		second, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		second = g.over(t, second.ID)
		require.Equal(t, []any{deadletter.Done, 10 - j.Taken, 10 - j.Taken}, []any{second.State, second.Total, second.Settled})
		_, err = g.Stop(t.Context(), second.ID, by)
		require.ErrorIs(t, err, deadletter.ErrState)
	})
}

// A job can be stopped while the broker is away, and what it could not send waits again.
func TestStopWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	eachGroup(t, 10, func(t *testing.T, g *group) {
		g.next = func(kafka.Record, int) error { return fault.Unavailablef("the broker is away") }
		j, err := g.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		run(t, g.Store)
		require.Eventually(t, func() bool {
			j, err = g.Job(t.Context(), j.ID)
			return err == nil && j.Detail == "sending is tried again: the broker is away"
		}, 30*time.Second, 5*time.Millisecond)
		_, err = g.Stop(t.Context(), j.ID, by)
		require.NoError(t, err)
		j = g.over(t, j.ID)
		require.Equal(t, []any{deadletter.Stopped, 0, 0, 0}, []any{j.State, j.Taken, j.Settled, j.Failed})
		waiting, err := g.List(t.Context(), deadletter.Filter{State: deadletter.Waiting}, deadletter.Position{}, 100)
		require.NoError(t, err)
		require.Len(t, waiting, 10)
	})
}

// What settles letters is heard of in the transaction that does it, and can refuse it.
func TestOnSettled(t *testing.T) {
	t.Parallel()
	eachGroup(t, 4, func(t *testing.T, g *group) {
		heard := map[string]deadletter.State{}
		refuse := errors.New("not now")
		g.OnSettled(func(_ context.Context, _ *database.Tx, ids []string, to deadletter.State) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, id := range ids {
				if id == "t-0-3" {
					return refuse
				}
				heard[id] = to
			}
			return nil
		})
		_, err := g.Redrive(t.Context(), "t-0-0", by)
		require.NoError(t, err)
		_, err = g.Discard(t.Context(), "t-0-1", by)
		require.NoError(t, err)
		_, err = g.Discard(t.Context(), "t-0-1", by)
		require.NoError(t, err)
		_, err = g.Discard(t.Context(), "t-0-3", by)
		require.ErrorIs(t, err, refuse)
		l, err := g.Get(t.Context(), "t-0-3")
		require.NoError(t, err)
		require.Equal(t, deadletter.Waiting, l.State)
		r := redriveAll()
		r.Verb, r.Filter.Key = deadletter.VerbDiscard, "k2"
		j, err := g.Begin(t.Context(), r)
		require.NoError(t, err)
		run(t, g.Store)
		require.Equal(t, 1, g.over(t, j.ID).Settled)
		g.mu.Lock()
		defer g.mu.Unlock()
		require.Equal(t, map[string]deadletter.State{"t-0-0": deadletter.Redriven, "t-0-1": deadletter.Discarded, "t-0-2": deadletter.Discarded}, heard)
	})
}
