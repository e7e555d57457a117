// Package databasetest gives each test a database of its own: always a SQLite file, and PostgreSQL too when
// TEST_POSTGRES_URL names a server on which databases may be made. Tests alone import it.
package databasetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
)

// Each runs fn as a parallel subtest for every kind of database at hand, with the URL of a new, empty one.
func Each(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	for name, newURL := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, newURL(t))
		})
	}
}

// EachBench is Each for benchmarks, one after the other.
func EachBench(b *testing.B, fn func(b *testing.B, url string)) {
	b.Helper()
	for name, newURL := range kinds() {
		b.Run(name, func(b *testing.B) { fn(b, newURL(b)) })
	}
}

func kinds() map[string]func(testing.TB) string {
	kinds := map[string]func(testing.TB) string{"sqlite": sqliteURL}
	if server := os.Getenv("TEST_POSTGRES_URL"); server != "" {
		kinds["postgres"] = func(t testing.TB) string { return postgresURL(t, server) }
	}
	return kinds
}

// Open opens the database until the test ends, and applies the migrations, by name.
func Open(t testing.TB, url string, migrations map[string]fs.FS, opts ...database.Option) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), url, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for name, fsys := range migrations {
		require.NoError(t, db.Migrate(t.Context(), name, fsys))
	}
	return db
}

func sqliteURL(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") }

func postgresURL(t testing.TB, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err, "TEST_POSTGRES_URL")
	admin, err := sql.Open("pgx", server)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	name := "test_" + strings.ToLower(rand.Text())
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
	})
	u.Path = "/" + name
	return u.String()
}

// Analyze has the database plan from now on for tables as small or large as they are now.
func Analyze(t testing.TB, db *database.DB) {
	t.Helper()
	for _, statement := range []string{"VACUUM", "ANALYZE"} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

// RowsRead returns how many rows of table what reads the database through db has looked at by an index so far. On
// SQLite, which does not count, it is 0.
func RowsRead(t testing.TB, db *database.DB, table string) (n int64) {
	t.Helper()
	if db.Dialect() == database.SQLite {
		return 0
	}
	// A connection tells the server now and then what it has done; db must have one alone (database.MaxConns).
	_, err := db.ExecContext(t.Context(), "SELECT pg_stat_force_next_flush()")
	require.NoError(t, err)
	err = db.QueryRowContext(t.Context(), "SELECT COALESCE(SUM(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname = $1", table).Scan(&n)
	require.NoError(t, err)
	return n
}
