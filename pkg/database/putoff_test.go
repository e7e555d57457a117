package database_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

func TestTableInSavepoints(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		put(t, db, parcelOf("old", 1))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, parcels.Ahead(ctx, tx, "old", "new", "undone"))
			parcels.Put(tx, parcelOf("old", 2))
			parcels.Put(tx, parcelOf("new", 2))
			cause := errors.New("cause")
			undone, err := tx.Savepoint(ctx, func() error {
				for _, id := range []string{"old", "new", "undone"} {
					parcels.Put(tx, parcelOf(id, 3))
				}
				return errors.Join(cause, tx.Flush(ctx)) // what was written is undone too
			})
			require.NoError(t, err)
			require.ErrorIs(t, undone, cause)
			undone, err = tx.Savepoint(ctx, func() error {
				parcels.Put(tx, parcelOf("new", 4)) // it is there, and unknown since the last part: its flush fails
				return nil
			})
			require.NoError(t, err)
			require.ErrorIs(t, undone, errTaken)
			for _, id := range []string{"old", "new"} {
				p, there := load(ctx, t, tx, id)
				require.True(t, there)
				require.Equal(t, parcelOf(id, 2), p)
			}
			_, there := load(ctx, t, tx, "undone")
			require.False(t, there)
			undone, err = tx.Savepoint(ctx, func() error {
				parcels.Put(tx, parcelOf("new", 5))
				return nil
			})
			require.NoError(t, errors.Join(undone, err))
			return nil
		}))
		require.Equal(t, map[string]parcel{"old": parcelOf("old", 2), "new": parcelOf("new", 5)}, all(t, db))
	})
}

func TestFlushAndWrites(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			counted := func() (n int) {
				require.NoError(t, tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM parcels WHERE weight = 2`).Scan(&n))
				return n
			}
			_, there := load(ctx, t, tx, "a")
			require.False(t, there)
			require.NoError(t, tx.Flush(ctx))
			require.Zero(t, tx.Writes(), "it has only read")
			parcels.Put(tx, parcelOf("a", 2))
			require.Equal(t, 1, tx.Writes())
			require.Zero(t, counted())
			require.NoError(t, tx.Flush(ctx))
			require.Equal(t, 1, counted())
			writes := tx.Writes()
			require.NoError(t, tx.Flush(ctx))
			require.Equal(t, writes, tx.Writes(), "nothing was left")
			parcels.Put(tx, parcelOf("a", 3)) // it is there now
			require.NoError(t, tx.Flush(ctx))
			require.Zero(t, counted())
			database.PutOffBy(tx, "work", func() *work { return &work{} })
			require.Greater(t, tx.Writes(), writes+1)
			return nil
		}))
		require.Equal(t, map[string]parcel{"a": parcelOf("a", 3)}, all(t, db))
	})
}

// work is put off, and does what a test says.
type work struct {
	name string
	do   func(name string) error
}

func (w *work) Flush(context.Context, *database.Tx) error {
	if w.do == nil {
		return nil
	}
	return w.do(w.name)
}

func TestPutOff(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := openParcels(t, url)
		var done []string
		cause := errors.New("cause")
		putOff := func(tx *database.Tx, name string) *work {
			return database.PutOffBy(tx, name, func() *work {
				return &work{name, func(name string) error {
					done = append(done, name)
					if name == "fails" {
						return cause
					}
					return nil
				}}
			})
		}
		run := func(names ...string) error {
			done = nil
			return db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
				tx.AfterCommit(func() { done = append(done, "hook") })
				for _, name := range names {
					require.Same(t, putOff(tx, name), putOff(tx, name))
				}
				parcels.Put(tx, parcelOf(strings.Join(names, " "), 1))
				return nil
			})
		}
		require.NoError(t, run("b", "c", "a", "b"))
		require.Equal(t, []string{"b", "c", "a", "hook"}, done, "in the order of the first calls")
		require.ErrorIs(t, run("a", "fails", "b"), cause)
		require.Equal(t, []string{"a", "fails"}, done)
		require.Len(t, all(t, db), 1, "nothing of a transaction whose work failed")
	})
}
