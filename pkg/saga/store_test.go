package saga_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
)

// on runs a test on a fresh database of each kind, with the table.
func on(t *testing.T, test func(t *testing.T, db *database.DB)) {
	t.Helper()
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		test(t, databasetest.Open(t, url, map[string]fs.FS{"saga": saga.Migrations}))
	})
}

func newStore(t *testing.T, defs ...*saga.Definition) (*saga.Store, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	st, err := saga.NewStore(reg, defs...)
	require.NoError(t, err)
	return st, reg
}

func start(t *testing.T, db *database.DB, st *saga.Store, def *saga.Definition, id string, at time.Time) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		_, commands, err := st.Start(ctx, tx, def, id, []byte(`{"k":"v"}`), at)
		require.Equal(t, []saga.Command{{Step: "first", Kind: saga.Do, Attempt: 1}}, commands)
		return err
	}))
}

func apply(ctx context.Context, db *database.DB, st *saga.Store, id string, in saga.Input) (s saga.State, commands []saga.Command, err error) {
	err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		s, commands, err = st.Apply(ctx, tx, id, in)
		return err
	})
	return s, commands, err
}

func TestStoreKeepsASaga(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, reg := newStore(t, def)
		ctx, at := t.Context(), sagatest.Base.Add(123456789) // not whole microseconds
		start(t, db, st, def, "a", at)

		s, commands, err := apply(ctx, db, st, "a", saga.Reply{At: at.Add(time.Second), Step: "first", Outcome: saga.Done, MessageID: "m"})
		require.NoError(t, err)
		require.Equal(t, []saga.Command{{Step: "second", Kind: saga.Do, Attempt: 1}}, commands)
		require.EqualValues(t, 2, s.Version)
		stored, err := st.Get(ctx, db, "a")
		require.NoError(t, err)
		require.Equal(t, s, stored)
		require.JSONEq(t, `{"k":"v"}`, string(stored.Data))

		// A duplicate writes nothing.
		s, commands, err = apply(ctx, db, st, "a", saga.Reply{At: at.Add(time.Second), Step: "first", Outcome: saga.Done, MessageID: "m"})
		require.NoError(t, err)
		require.Empty(t, commands)
		require.EqualValues(t, 2, s.Version)

		for _, step := range []string{"second", "third"} {
			_, _, err = apply(ctx, db, st, "a", saga.Reply{At: at.Add(2 * time.Second), Step: step, Outcome: saga.Done})
			require.NoError(t, err)
		}
		s, _, err = apply(ctx, db, st, "a", saga.Cancel{At: at})
		require.ErrorIs(t, err, saga.ErrTooLate)
		require.Equal(t, saga.Completed, s.Status)
		due, err := saga.Due(ctx, db, at.Add(time.Hour), saga.DueSaga{}, 10)
		require.NoError(t, err)
		require.Empty(t, due, "a saga that has ended waits for nothing")

		require.InDelta(t, 1, total(t, reg, "saga_finished_total"), 0)
		require.InDelta(t, 0, total(t, reg, "saga_deadlines_fired_total"), 0)
	})
}

func TestStoreRefuses(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, _ := newStore(t, def)
		start(t, db, st, def, "a", sagatest.Base)
		ctx := t.Context()

		_, _, err := apply(ctx, db, st, "nobody", saga.Cancel{})
		require.ErrorIs(t, err, saga.ErrNotFound)
		require.Equal(t, fault.Permanent, fault.KindOf(err))
		_, err = st.Get(ctx, db, "nobody")
		require.ErrorIs(t, err, saga.ErrNotFound)

		err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
			_, _, err := st.Start(ctx, tx, def, "a", nil, sagatest.Base)
			return err
		})
		require.ErrorIs(t, err, saga.ErrExists)
		require.Equal(t, fault.Permanent, fault.KindOf(err))

		// Two that loaded the same row: the second to save is told to try again.
		s, err := st.Get(ctx, db, "a")
		require.NoError(t, err)
		save := func() error {
			return db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
				_, err := st.Save(ctx, tx, s)
				return err
			})
		}
		require.NoError(t, save())
		err = save()
		require.ErrorContains(t, err, "version 1 is stale")
		require.Equal(t, fault.Transient, fault.KindOf(err))

		// A store without the definition that a saga runs under touches nothing.
		later := *def
		later.Version = 2
		other, _ := newStore(t, &later)
		_, _, err = apply(ctx, db, other, "a", saga.Cancel{At: sagatest.Base})
		require.ErrorContains(t, err, "does not know three version 1")
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "the input waits for a process that knows the plan")
		_, err = saga.NewStore(nil, def, def)
		require.ErrorContains(t, err, "comes twice")
	})
}

func TestDuePagesThroughSagasInOrderOfDeadline(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, _ := newStore(t, def)
		for i, id := range []string{"c", "b", "a", "d"} { // b and a share an instant, d is not due
			start(t, db, st, def, id, sagatest.Base.Add([]time.Duration{0, 500 * time.Millisecond, 500 * time.Millisecond, time.Hour}[i]))
		}
		var got []string
		for after := (saga.DueSaga{}); ; {
			page, err := saga.Due(t.Context(), db, sagatest.Base.Add(30500*time.Millisecond), after, 1)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			after = page[0]
			got = append(got, after.ID)
		}
		require.Equal(t, []string{"c", "a", "b"}, got)
	})
}

func TestTimersFireOnceAndAFailureHoldsUpNoOther(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, reg := newStore(t, def)
		for i := range 5 {
			start(t, db, st, def, string(rune('a'+i)), sagatest.Base)
		}
		now := sagatest.Base.Add(31 * time.Second)
		logs := &countLogs{}
		var mu sync.Mutex
		undone, attempts := map[string]int{}, 0
		fire := func(ctx context.Context, id string, _ time.Time) error {
			if id == "a" || id == "b" { // more of them than a batch holds
				mu.Lock()
				attempts++
				mu.Unlock()
				return errors.New("broken")
			}
			return db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
				_, commands, err := st.Apply(ctx, tx, id, saga.DeadlinePassed{At: now, Step: "first"})
				tx.AfterCommit(func() {
					mu.Lock()
					undone[id] += len(commands)
					mu.Unlock()
				})
				return err
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var replicas sync.WaitGroup
		for i := range 3 {
			cfg := saga.TimersConfig{Interval: time.Millisecond, Batch: 1, Now: func() time.Time { return now }}
			if i == 0 {
				cfg.Logger = slog.New(logs)
			}
			replicas.Go(func() { require.NoError(t, saga.NewTimers(db, fire, cfg).Run(ctx)) })
		}
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(undone) == 3 && attempts > 20 && logs.count() >= 2 // the one with the log may be the last to begin
		}, 10*time.Second, time.Millisecond)
		cancel()
		replicas.Wait()
		require.Equal(t, map[string]int{"c": 1, "d": 1, "e": 1}, undone)
		require.Equal(t, 2, logs.count(), "a saga that keeps failing is logged once")
		require.InDelta(t, 3, total(t, reg, "saga_deadlines_fired_total"), 0)
	})
}

func TestTimersSurviveADatabaseThatIsGone(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, _ := newStore(t, def)
		start(t, db, st, def, "a", sagatest.Base)
		start(t, db, st, def, "b", sagatest.Base)
		calls := make(chan string, 100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		timers := saga.NewTimers(db, func(_ context.Context, id string, _ time.Time) error {
			select {
			case calls <- id:
			default:
				cancel()
			}
			return fault.Unavailablef("gone")
		}, saga.TimersConfig{Interval: time.Microsecond, Now: func() time.Time { return sagatest.Base.Add(time.Hour) }})
		require.NoError(t, timers.Run(ctx))
		for range 100 {
			require.Equal(t, "a", <-calls, "a round ends when the database is gone")
		}
	})
}

// countLogs counts errors logged.
type countLogs struct{ n atomic.Int64 }

func (c *countLogs) count() int { return int(c.n.Load()) }

func (c *countLogs) Enabled(context.Context, slog.Level) bool { return true }
func (c *countLogs) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *countLogs) WithGroup(string) slog.Handler            { return c }
func (c *countLogs) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelError {
		c.n.Add(1)
	}
	return nil
}

// total is the sum of a counter's series.
func total(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// A state of several kilobytes is in its row: PostgreSQL has nothing of it in another table.
func TestStatesStayInTheirRows(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			return // it has no other table
		}
		def := threeSteps(t)
		st, _ := newStore(t, def)
		inOther := func(id string, data []byte) (bytes int) {
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				_, _, err := st.Start(ctx, tx, def, id, data, sagatest.Base)
				return err
			}))
			require.NoError(t, db.QueryRowContext(t.Context(),
				"SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'sagas'").Scan(&bytes))
			return bytes
		}
		data := func(n int) []byte { // that cannot be compressed well
			var text strings.Builder
			for text.Len() < n {
				text.WriteString(rand.Text())
			}
			return []byte(`"` + text.String() + `"`)
		}
		require.Zero(t, inOther("a", data(6_000)))
		require.NotZero(t, inOther("b", data(60_000)), "this test can fail")
	})
}
