package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func migration(text string) fs.FS {
	return fstest.MapFS{"0001_things.sql": {Data: []byte("-- +goose Up\n" + text)}}
}

var things = migration(`
CREATE TABLE things (
    seq  {{identity}},
    name TEXT NOT NULL UNIQUE,
    n    BIGINT NOT NULL CHECK (n >= 0),
    at   {{timestamp}},
    raw  {{bytes}}
);
INSERT INTO things (name, n) VALUES ('seed', 1);`)

func open(t *testing.T, url string) *database.DB {
	t.Helper()
	return databasetest.Open(t, url, map[string]fs.FS{"things": things})
}

func count(t *testing.T, db *database.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM things WHERE name <> 'seed'`).Scan(&n))
	return n
}

func add(ctx context.Context, tx *database.Tx, name string, n int) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO things (name, n) VALUES ($1, $2)`, name, n)
	return err
}

func TestTransactionCommitsOrLeavesNothing(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		var order []string
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			tx.AfterCommit(func() { order = append(order, "first") })
			tx.AfterCommit(func() { order = append(order, "second") })
			require.Equal(t, db.Dialect(), tx.Dialect())
			return add(ctx, tx, "a", 1)
		}))
		require.Equal(t, []string{"first", "second"}, order)
		require.Equal(t, 1, count(t, db))

		cause := errors.New("cause")
		require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			tx.AfterCommit(func() { t.Error("called without a commit") })
			require.NoError(t, add(ctx, tx, "b", 1))
			return cause
		}), cause)
		require.PanicsWithValue(t, "boom", func() {
			_ = db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				require.NoError(t, add(ctx, tx, "c", 1))
				panic("boom")
			})
		})
		require.Equal(t, 1, count(t, db))
		// The panic left no transaction open that would block the writer.
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return add(ctx, tx, "d", 1) }))
	})
}

func TestTransactionInsideOfTransactionIsRefused(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		err := db.InTx(t.Context(), func(ctx context.Context, _ *database.Tx) error {
			return db.InTx(ctx, func(context.Context, *database.Tx) error { return nil })
		})
		require.ErrorContains(t, err, "inside of a transaction")
		require.Equal(t, fault.Permanent, fault.KindOf(err))
	})
}

// A part of a transaction fails, in each way, and the rest commits.
func TestSavepoint(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		cause := errors.New("cause")
		var hooks []string
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			part := func(name string, end func() error) error {
				undone, err := tx.Savepoint(ctx, func() error {
					tx.AfterCommit(func() { hooks = append(hooks, name) })
					require.NoError(t, add(ctx, tx, name, 1))
					return end()
				})
				require.NoError(t, err)
				return undone
			}
			fine := func() error { return nil }
			require.NoError(t, part("a", fine))
			require.ErrorIs(t, part("b", func() error { return cause }), cause)
			require.True(t, database.IsUnique(part("c", func() error { return add(ctx, tx, "a", 1) })))
			// PostgreSQL does not let an error be swallowed here either.
			swallowed := part("d", func() error {
				require.Error(t, add(ctx, tx, "a", 1))
				return nil
			})
			require.Equal(t, db.Dialect() == database.Postgres, swallowed != nil, swallowed)
			require.NoError(t, part("e", fine))
			return nil
		}))
		want := []string{"a", "d", "e"}
		if db.Dialect() == database.Postgres {
			want = []string{"a", "e"}
		}
		require.Equal(t, want, hooks)
		require.Equal(t, len(want), count(t, db))

		require.Error(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.Savepoint(ctx, func() error {
				_, err := tx.ExecContext(ctx, `ROLLBACK`)
				return err
			})
			require.Error(t, err, "the transaction cannot go on")
			return nil
		}))
	})
}

func TestConstraintsAreRecognised(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		insert := func(name string, n int) error {
			return db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return add(ctx, tx, name, n) })
		}
		require.NoError(t, insert("a", 1))
		err := insert("a", 1)
		require.True(t, database.IsUnique(err), err)
		require.False(t, database.IsCheck(err), err)
		err = insert("b", -1)
		require.True(t, database.IsCheck(err), err)
		require.False(t, database.IsUnique(err), err)

		// An error that is swallowed: on PostgreSQL the commit fails rather than losing the rest in silence.
		err = db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, add(ctx, tx, "c", 1))
			require.True(t, database.IsUnique(add(ctx, tx, "a", 1)))
			return nil
		})
		require.Equal(t, db.Dialect() == database.Postgres, err != nil, err)
	})
}

func TestTimesComeBackInUTC(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		// An hour east of Greenwich: compared as texts, the second would come first.
		first := time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC)
		second := first.Add(time.Minute).In(time.FixedZone("west", -3600))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO things (name, n, at, raw) VALUES ($1, $2, $3, $4), ($5, $6, $7, $8)`,
				"first", 1, first, []byte{0, 255}, "second", 2, second, nil)
			return err
		}))
		var at time.Time
		var raw []byte
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT at, raw FROM things WHERE name = 'first'`).Scan(&at, &raw))
		require.Equal(t, first, at)
		require.Equal(t, []byte{0, 255}, raw)
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT at FROM things WHERE at > $1 ORDER BY at LIMIT 1`, first).Scan(&at))
		require.Equal(t, second.UTC(), at)
	})
}

func TestIdentityIsNotGivenOutAgain(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		insert := func(name string) (seq int64) {
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				return tx.QueryRowContext(ctx, `INSERT INTO things (name, n) VALUES ($1, 0) RETURNING seq`, name).Scan(&seq)
			}))
			return seq
		}
		first := insert("a")
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM things`)
			return err
		}))
		require.Greater(t, insert("b"), first)
	})
}

// Read-modify-write from many goroutines loses nothing: ForUpdate on PostgreSQL, the one writer on SQLite.
func TestForUpdate(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
					var n int
					if err := tx.QueryRowContext(ctx, `SELECT n FROM things WHERE name = 'seed'`+tx.ForUpdate()).Scan(&n); err != nil {
						return err
					}
					_, err := tx.ExecContext(ctx, `UPDATE things SET n = $1 WHERE name = 'seed'`, n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT n FROM things WHERE name = 'seed'`).Scan(&n))
		require.Equal(t, 21, n)
	})
}

func TestMigrateAtOnceAppliesOnce(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		// Each has connections of its own, as processes have.
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				db, err := database.Open(t.Context(), url)
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(db.Migrate(t.Context(), "things", things), db.Migrate(t.Context(), "more", migration(`
					CREATE TABLE IF NOT EXISTS more (n BIGINT);
					INSERT INTO more (n) VALUES (1);`)), db.Close())
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		db := open(t, url)
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM more`).Scan(&n))
		require.Equal(t, 1, n)
	})
}

func TestMigrateMistakes(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		err := db.Migrate(t.Context(), "other", migration(`CREATE TABLE other (at {{time}});`))
		require.ErrorContains(t, err, "{{time}} is not known; allowed: {{identity}} {{timestamp}} {{bytes}} {{json}} {{postgres}}")
		require.ErrorContains(t, err, "0001_things.sql")
		require.ErrorContains(t, db.Migrate(t.Context(), "Bad Name", things), `migrate "Bad Name"`)
		require.ErrorContains(t, db.Migrate(t.Context(), "none", fstest.MapFS{}), "no migration")
		require.ErrorContains(t, db.Migrate(t.Context(), "wrong", migration(`CREATE TABL x (n INT);`)), "migrate wrong")
		require.NoError(t, db.Migrate(t.Context(), "things", things), "a second time there is nothing to do")
	})
}

func TestCancelledIsUnavailable(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		ctx, cancel := context.WithCancel(t.Context())
		err := db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
			cancel()
			return add(ctx, tx, "a", 1)
		})
		require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
		require.Equal(t, 0, count(t, db))
		err = database.Classify(db.QueryRowContext(ctx, `SELECT 1`).Scan(new(int)))
		require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
		require.NoError(t, db.Ping(t.Context()))
	})
}

// A transaction that waits for the writer, in this process or another, ends with its context.
func TestWaitForWriterEndsWithContext(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "wait.db")
	db, other := open(t, url), open(t, url)
	for name, waiting := range map[string]*database.DB{"same process": db, "another": other} {
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, add(ctx, tx, name, 1))
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := waiting.InTx(short, func(context.Context, *database.Tx) error { return nil })
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Less(t, time.Since(start), 3*time.Second, name)
			require.Equal(t, fault.Transient, fault.KindOf(err), name)
			return nil
		}))
	}
	require.Equal(t, 2, count(t, other))
}

func TestReadersDoNotWrite(t *testing.T) {
	t.Parallel()
	db := open(t, "sqlite:"+filepath.Join(t.TempDir(), "ro.db"))
	var n int
	err := db.QueryRowContext(t.Context(), `INSERT INTO things (name, n) VALUES ('a', 1) RETURNING n`).Scan(&n)
	require.ErrorContains(t, err, "readonly")
}

func TestDeadlockIsTransient(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			return errors.Join(add(ctx, tx, "a", 0), add(ctx, tx, "b", 0))
		}))
		bump := func(ctx context.Context, tx *database.Tx, name string) error {
			_, err := tx.ExecContext(ctx, `UPDATE things SET n = n + 1 WHERE name = $1`, name)
			return err
		}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		both := make(chan struct{}, 2)
		for i, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				errs[i] = db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
					if err := bump(ctx, tx, names[0]); err != nil {
						return err
					}
					both <- struct{}{}
					if db.Dialect() == database.Postgres { // on SQLite the other cannot come this far
						for len(both) < 2 {
							if ctx.Err() != nil {
								return ctx.Err()
							}
						}
					}
					return bump(ctx, tx, names[1])
				})
			})
		}
		wg.Wait()
		for _, err := range errs {
			require.Equal(t, fault.Transient, fault.KindOf(err), err)
		}
		require.Equal(t, db.Dialect() == database.Postgres, errors.Join(errs...) != nil)
	})
}

func TestRowsAndLists(t *testing.T) {
	t.Parallel()
	require.Equal(t, "$2,$3,$4", database.List(2, 3))
	require.Equal(t, []any{"x", int64(1), int64(2)}, database.Args([]any{"x"}, int64(1), int64(2)))
	require.Empty(t, database.List(1, 0))
}

// One text whatever the number of rows on PostgreSQL, and the rows in their order on both.
func TestColumns(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		texts := map[string]bool{}
		for _, n := range []int{1, 3, database.MaxRows} {
			names, at := make([]string, n), make([]time.Time, n)
			for i := range n {
				names[i], at[i] = fmt.Sprint(n, "-", i), time.Unix(int64(i), 0).UTC()
			}
			values, args := db.Dialect().Columns(database.Texts(names), database.Times(at))
			texts[values] = true
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `DELETE FROM things`)
				require.NoError(t, err)
				from := `name, 0, at FROM (` + values + `) AS v (name, at)`
				if db.Dialect() == database.SQLite { // it names no columns of a subquery
					from = `column1, 0, column2 FROM (` + values + `)`
				}
				_, err = tx.ExecContext(ctx, `INSERT INTO things (name, n, at) SELECT `+from, args...)
				return err
			}))
			rows, err := db.QueryContext(t.Context(), `SELECT name, at FROM things ORDER BY seq`)
			require.NoError(t, err)
			defer func() { require.NoError(t, rows.Close()) }()
			for i := range n {
				var name string
				var instant time.Time
				require.True(t, rows.Next())
				require.NoError(t, rows.Scan(&name, &instant))
				require.Equal(t, names[i], name)
				require.Equal(t, at[i], instant)
			}
			require.False(t, rows.Next())
			require.NoError(t, rows.Err())
		}
		if db.Dialect() == database.Postgres {
			require.Len(t, texts, 1)
		}
	})
}

func TestNoRowsStaysAsItIs(t *testing.T) {
	t.Parallel()
	require.Equal(t, sql.ErrNoRows, database.Classify(sql.ErrNoRows))
	wrapped := fmt.Errorf("x: %w", fault.AsPermanent(context.Canceled))
	require.Equal(t, wrapped, database.Classify(wrapped))
	require.NoError(t, database.Classify(nil))
}
