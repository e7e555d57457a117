package database_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

func later(ctx context.Context, tx *database.Tx, name string, n int) error {
	return tx.Later(ctx, database.Statement{Query: `INSERT INTO things (name, n) VALUES ($1, $2)`, Args: []any{name, n}})
}

func names(ctx context.Context, t *testing.T, tx *database.Tx) (names []string) {
	t.Helper()
	rows, err := tx.QueryContext(ctx, `SELECT name FROM things WHERE name <> 'seed' ORDER BY name`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

// What is given to Later is executed in its order: before the next statement, by Wait, and by the commit.
func TestLater(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			sum := func() (n int) {
				require.NoError(t, tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(n), 0) FROM things WHERE name <> 'seed'`).Scan(&n))
				return n
			}
			require.NoError(t, later(ctx, tx, "a", 1))
			require.Equal(t, 1, sum(), "before a row is read")
			require.NoError(t, later(ctx, tx, "b", 2))
			require.Equal(t, []string{"a", "b"}, names(ctx, t, tx), "before rows are")

			require.NoError(t, tx.Later(ctx, database.Statement{Query: `UPDATE things SET n = n + 10 WHERE name <> 'seed'`}))
			var read []int
			require.NoError(t, tx.Later(ctx, database.Statement{
				Query: `SELECT n FROM things WHERE n > $1 ORDER BY n`, Args: []any{5},
				Row: func(row database.Scanner) error {
					var n int
					err := row.Scan(&n)
					read = append(read, n)
					return err
				},
			}))
			require.NoError(t, tx.Wait(ctx))
			require.Equal(t, []int{11, 12}, read)

			result, err := tx.ExecContext(ctx, `DELETE FROM things WHERE name = 'a'`)
			require.NoError(t, err)
			n, err := result.RowsAffected()
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
			return later(ctx, tx, "c", 3) // goes with the commit
		}))
		require.Equal(t, 2, count(t, db))
		require.NoError(t, db.InTx(t.Context(), func(context.Context, *database.Tx) error { return nil }), "nothing at all")
	})
}

// A statement's error comes with what it goes out with, and undoes everything.
func TestLaterFails(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	twice := func(ctx context.Context, tx *database.Tx) error {
		return errors.Join(later(ctx, tx, "a", 1), later(ctx, tx, "a", 1))
	}
	for name, fn := range map[string]func(ctx context.Context, tx *database.Tx) error{
		"with the commit": twice,
		"with Wait": func(ctx context.Context, tx *database.Tx) error {
			return errors.Join(twice(ctx, tx), tx.Wait(ctx))
		},
		"with a statement": func(ctx context.Context, tx *database.Tx) error {
			err := twice(ctx, tx)
			if err == nil {
				_, err = tx.ExecContext(ctx, `DELETE FROM things`)
			}
			return err
		},
		"with a query": func(ctx context.Context, tx *database.Tx) error {
			err := twice(ctx, tx)
			if err == nil {
				_, err = tx.QueryContext(ctx, `SELECT n FROM things`) //nolint:sqlclosecheck,rowserrcheck // there are none
				require.Error(t, err)
			}
			return err
		},
		"with a row": func(ctx context.Context, tx *database.Tx) error {
			var n int
			err := twice(ctx, tx)
			if err == nil {
				err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM things`).Scan(&n)
				require.Error(t, err)
			}
			return err
		},
		"swallowed": func(ctx context.Context, tx *database.Tx) error {
			if err := twice(ctx, tx); err != nil {
				return err // SQLite says so at once
			}
			require.Error(t, tx.Wait(ctx))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				db := open(t, url)
				err := db.InTx(t.Context(), fn)
				require.Error(t, err)
				if name != "swallowed" {
					require.True(t, database.IsUnique(err), err)
				}
				require.Zero(t, count(t, db))

				// A row can be refused also when nothing waits for it, and Failed tells why.
				err = db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
					if err := later(ctx, tx, "a", 1); err != nil {
						return err
					}
					return tx.Later(ctx, database.Statement{
						Query: `SELECT n FROM things`, Row: func(database.Scanner) error { return errors.New("no") },
						Failed: func(err error) error { return errors.Join(err, cause) },
					})
				})
				require.ErrorIs(t, err, cause)
				require.ErrorContains(t, err, "no")
				require.Zero(t, count(t, db))
				require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return add(ctx, tx, "a", 1) }),
					"the connection is fit for use")
			})
		})
	}
}

// Within a savepoint too: what was put off belongs to the part that put it off.
func TestLaterInSavepoint(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url)
		cause := errors.New("cause")
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, later(ctx, tx, "before", 1))
			undone, err := tx.Savepoint(ctx, func() error { return errors.Join(later(ctx, tx, "in", 1), cause) })
			require.NoError(t, err)
			require.ErrorIs(t, undone, cause)
			undone, err = tx.Savepoint(ctx, func() error { return later(ctx, tx, "before", 1) })
			require.NoError(t, err)
			require.True(t, database.IsUnique(undone), undone)
			undone, err = tx.Savepoint(ctx, func() error { return later(ctx, tx, "good", 1) })
			require.NoError(t, errors.Join(undone, err))
			return later(ctx, tx, "after", 1)
		}))
		require.Equal(t, 3, count(t, db))
	})
}
