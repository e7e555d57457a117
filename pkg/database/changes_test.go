package database_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

type tally struct {
	key string
	n   int64
}

var tallies = &database.Table[tally]{
	Name: "tallies",
	Fields: []database.Field[tally]{
		database.Text("key", func(r tally) string { return r.key }),
		database.Int("n", func(r tally) int64 { return r.n }),
	},
	Scan: func(row database.Scanner) (r tally, err error) {
		err = row.Scan(&r.key, &r.n)
		return r, err
	},
}

var talliesTable = map[string]fs.FS{"tallies": fstest.MapFS{"0001_tallies.sql": {Data: []byte(`-- +goose Up
CREATE TABLE tallies (key TEXT PRIMARY KEY, n BIGINT NOT NULL CHECK (n >= 0));`)}}}

// plus is a change that adds n to a key's tally.
func plus(key string, n int64) func(tally) (tally, error) {
	return func(r tally) (tally, error) { return tally{key, r.n + n}, nil }
}

// together makes calls that are in one batch: they wait for a first one, which goes on when all of them have begun.
func together(t *testing.T, changes *database.Changes[tally], calls map[string]func(tally) (tally, error)) map[string]error {
	t.Helper()
	inside, through := make(chan struct{}, 3), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := changes.Do(t.Context(), "first", func(r tally) (tally, error) {
			inside <- struct{}{}
			<-through
			return tally{"first", r.n + 1}, nil
		})
		assert.NoError(t, err)
	})
	<-inside
	var mu sync.Mutex
	errs := map[string]error{}
	for key, fn := range calls {
		all.Go(func() {
			_, err := changes.Do(t.Context(), key, fn)
			mu.Lock()
			defer mu.Unlock()
			errs[key] = err
		})
	}
	require.Eventually(t, func() bool { return changes.Waiting() == len(calls) }, time.Minute, time.Millisecond)
	close(through)
	all.Wait()
	return errs
}

// n is what was committed of a key.
func n(t *testing.T, db *database.DB, key string) int64 {
	t.Helper()
	row, _, err := tallies.Get(t.Context(), db, key)
	require.NoError(t, err)
	return row.n
}

func TestChangesShareATransaction(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		db := databasetest.Open(t, url, talliesTable)
		changes := database.NewChanges(db, tallies)
		own := errors.New("own")
		of := func(calls int) int {
			batch := map[string]func(tally) (tally, error){
				"same": func(r tally) (tally, error) { return r, nil },
				"no":   func(tally) (tally, error) { return tally{"no", 1}, own },
			}
			for i := range calls {
				batch[fmt.Sprint(i)] = plus(fmt.Sprint(i), 1)
			}
			before := 0
			if counted {
				before = statements()
			}
			for key, err := range together(t, changes, batch) {
				if key == "no" {
					require.ErrorIs(t, err, own)
				} else {
					require.NoError(t, err)
				}
			}
			if counted {
				return statements() - before
			}
			return 0
		}
		of(1) // with what is prepared
		few, many := of(10), of(500)
		require.LessOrEqual(t, many, few+1, "an update and an insert, of any number of rows")
		for i := range 500 {
			want := int64(1)
			if i < 10 {
				want++
			}
			if i == 0 {
				want++
			}
			require.Equal(t, want, n(t, db, fmt.Sprint(i)))
		}
		require.Zero(t, n(t, db, "no"))
	})
}

// What the database refuses takes nobody with it, and an answer that went by what was undone is not given.
func TestChangesThatAreRefused(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, talliesTable)
		changes := database.NewChanges(db, tallies)
		calls := map[string]func(tally) (tally, error){"bad": plus("bad", -1)}
		for i := range 20 {
			calls[fmt.Sprint(i)] = plus(fmt.Sprint(i), 1)
		}
		for key, err := range together(t, changes, calls) {
			if key == "bad" {
				require.True(t, database.IsCheck(err), "%v", err)
			} else {
				require.NoError(t, err)
				require.EqualValues(t, 1, n(t, db, key))
			}
		}
		require.Zero(t, n(t, db, "bad"))

		// The second of a key sees what the first made, until that is refused.
		inside, through := make(chan struct{}, 1), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			_, err := changes.Do(t.Context(), "first", func(r tally) (tally, error) {
				inside <- struct{}{}
				<-through
				return r, nil
			})
			assert.NoError(t, err)
		})
		<-inside
		begin := func(waiting int, fn func(tally) (tally, error)) chan error {
			done := make(chan error, 1)
			all.Go(func() {
				_, err := changes.Do(t.Context(), "twice", fn)
				done <- err
			})
			require.Eventually(t, func() bool { return changes.Waiting() == waiting }, time.Minute, time.Millisecond)
			return done
		}
		one := begin(1, plus("twice", -1))
		two := begin(2, func(r tally) (tally, error) {
			if r.n != 0 {
				return r, errors.New("somebody was here")
			}
			return tally{"twice", 7}, nil
		})
		close(through)
		require.True(t, database.IsCheck(<-one))
		require.NoError(t, <-two)
		require.EqualValues(t, 7, n(t, db, "twice"))
		all.Wait()
	})
}

// Another process writes a row that was not there when it was looked for. On PostgreSQL alone: on SQLite a transaction is
// alone from its begin.
func TestChangesThatSomebodyIsFasterWith(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, rawURL string) {
		if strings.HasPrefix(rawURL, "sqlite:") {
			return
		}
		other := databasetest.Open(t, rawURL, talliesTable)
		impatient, err := url.Parse(rawURL)
		require.NoError(t, err)
		query := impatient.Query()
		query.Set("lock_timeout", "50")
		impatient.RawQuery = query.Encode()
		changes := database.NewChanges(databasetest.Open(t, impatient.String(), nil), tallies)
		insert := func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO tallies (key, n) VALUES ('held', 5)`)
			return err
		}
		// It does not commit: the calls of the batch hear that it was in the way, also one that had an answer of its own.
		require.NoError(t, other.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, insert(ctx, tx))
			errs := together(t, changes, map[string]func(tally) (tally, error){
				"held": plus("held", 1),
				"own":  func(r tally) (tally, error) { return r, errors.New("own") },
			})
			require.True(t, database.IsConflict(errs["held"]), "%v", errs["held"])
			require.True(t, database.IsConflict(errs["own"]), "%v", errs["own"])
			_, err := tx.ExecContext(ctx, `DELETE FROM tallies WHERE key = 'held'`)
			return err
		}))
		// It commits: what it wrote is what is changed.
		times := 0
		got, err := changes.Do(t.Context(), "held", func(r tally) (tally, error) {
			if times++; times == 1 {
				assert.NoError(t, other.InTx(t.Context(), insert))
			}
			return tally{"held", r.n + 1}, nil
		})
		require.NoError(t, err)
		require.Equal(t, tally{"held", 6}, got)
		require.EqualValues(t, 6, n(t, other, "held"))
		require.Equal(t, 2, times)
	})
}

// Processes that change the same rows, of which there are none yet, lose nothing.
func TestChangesOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		var all sync.WaitGroup
		const processes, keys, times = 3, 8, 5
		for p := range processes {
			changes := database.NewChanges(databasetest.Open(t, url, talliesTable), tallies)
			for i := range keys * times {
				key := fmt.Sprint((i + p) % keys)
				all.Go(func() {
					_, err := changes.Do(t.Context(), key, plus(key, 1))
					assert.NoError(t, err)
				})
			}
		}
		all.Wait()
		db := databasetest.Open(t, url, nil)
		for i := range keys {
			require.EqualValues(t, processes*times, n(t, db, fmt.Sprint(i)))
		}
	})
}
