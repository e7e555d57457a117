package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

func each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, url string) {
		fn(t, databasetest.Open(t, url, map[string]fs.FS{"inbox": inbox.Migrations}))
	})
}

func mark(t *testing.T, db *database.DB, consumer string, at time.Time, ids ...string) (fresh map[string]bool) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) (err error) {
		fresh, err = inbox.Mark(ctx, tx, consumer, at, ids...)
		return err
	}))
	return fresh
}

func TestMarkTellsWhatIsNew(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		require.Equal(t, map[string]bool{"a": true, "b": true}, mark(t, db, "payment", at, "a", "b", "a"))
		require.Equal(t, map[string]bool{"c": true}, mark(t, db, "payment", at, "a", "c", "b"))
		require.Equal(t, map[string]bool{"a": true}, mark(t, db, "shipping", at, "a"), "consumers are apart")
		require.Empty(t, mark(t, db, "payment", at))
		seen, err := inbox.Seen(t.Context(), db, "payment", "z", "a", "c", "a")
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"a": true, "c": true}, seen)
		seen, err = inbox.Seen(t.Context(), db, "shipping", "a", "c")
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"a": true}, seen, "consumers are apart")
	})
}

func TestMarkGoesWithTheTransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		cause := errors.New("the effect failed")
		require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			fresh, err := inbox.Mark(ctx, tx, "payment", at, "a")
			require.NoError(t, err)
			require.True(t, fresh["a"])
			return cause
		}), cause)
		require.True(t, mark(t, db, "payment", at, "a")["a"], "it comes again as new")
	})
}

func TestUnmarkTakesBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		mark(t, db, "shipping", at, "a")
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := inbox.Mark(ctx, tx, "payment", at, "a", "b", "c")
			require.NoError(t, err)
			require.NoError(t, inbox.Unmark(ctx, tx, "payment"))
			return inbox.Unmark(ctx, tx, "payment", "a", "c")
		}))
		require.Equal(t, map[string]bool{"a": true, "c": true}, mark(t, db, "payment", at, "a", "b", "c"), "they come again as new")
		require.Empty(t, mark(t, db, "shipping", at, "a"), "another's stays")
	})
}

func TestOneOfManyIsFirst(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		var first atomic.Int64
		var wg sync.WaitGroup
		ids := []string{"a", "b", "c", "d"}
		for i := range 16 {
			wg.Go(func() {
				mine := append(append([]string{}, ids[i%4:]...), ids[:i%4]...) // each in another order
				err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
					fresh, err := inbox.Mark(ctx, tx, "payment", at, mine...)
					first.Add(int64(len(fresh)))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, len(ids), first.Load())
	})
}

func TestMoreIdsThanAStatementTakes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		ids := make([]string, 2*database.MaxRows+1)
		for i := range ids {
			ids[i] = fmt.Sprint("id", i)
		}
		require.Len(t, mark(t, db, "payment", at, ids...), len(ids))
		require.Empty(t, mark(t, db, "payment", at, ids...))
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		mark(t, db, "payment", at, "a", "b", "c")
		mark(t, db, "payment", at.Add(time.Hour), "d")
		for _, want := range []int{3, 0} {
			n, err := inbox.Purge(t.Context(), db, at.Add(time.Minute), 2)
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		require.Equal(t, map[string]bool{"a": true}, mark(t, db, "payment", at, "a", "d"))
	})
}

// Several replicas purge at once, in many batches, with many messages of one instant: each is deleted once, nobody
// fails, and what is younger stays.
func TestPurgeOfMany(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		const n = 5000
		for i := range n / 500 {
			ids := make([]string, 500)
			for k := range ids {
				ids[k] = fmt.Sprintf("%d-%d", i, k)
			}
			mark(t, db, "payment", at.Add(time.Duration(i/3)*time.Second), ids...)
		}
		mark(t, db, "payment", at.Add(time.Hour), "young")
		var total atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				purged, err := inbox.Purge(t.Context(), db, at.Add(time.Minute), 100)
				if err != nil {
					t.Error(err)
				}
				total.Add(int64(purged))
			})
		}
		wg.Wait()
		// One that was left out because another had it locked is that other's.
		purged, err := inbox.Purge(t.Context(), db, at.Add(time.Minute), 100)
		require.NoError(t, err)
		require.EqualValues(t, n, total.Load()+int64(purged))
		require.Empty(t, mark(t, db, "payment", at, "young"))
	})
}

// What it costs to look for a few does not depend on how many there are, also when PostgreSQL made its plan while they were
// few.
func TestSeenLooksAtWhatItIsAsked(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{"inbox": inbox.Migrations}, database.MaxConns(1))
		look := func() (rows int64) {
			before := databasetest.RowsRead(t, db, "inbox")
			seen, err := inbox.Seen(t.Context(), db, "payment", "a-1", "a-2", "a-3", "never")
			require.NoError(t, err)
			require.Len(t, seen, 3)
			return databasetest.RowsRead(t, db, "inbox") - before
		}
		ids := func(kind string, n int) []string {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint(kind, "-", i)
			}
			return ids
		}
		mark(t, db, "payment", at, ids("a", 10)...)
		databasetest.Analyze(t, db)
		look()
		mark(t, db, "payment", at, ids("b", 10_000)...)
		require.LessOrEqual(t, look(), int64(3))
	})
}
