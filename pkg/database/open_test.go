package database_test

import (
	"database/sql/driver"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
)

func TestOpenMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	occupied := filepath.Join(dir, "occupied")
	require.NoError(t, os.WriteFile(occupied, []byte("x"), 0o600))
	notADatabase := filepath.Join(dir, "text.db")
	require.NoError(t, os.WriteFile(notADatabase, append([]byte("no database at all"), make([]byte, 4096)...), 0o600))
	for name, tc := range map[string]struct{ url, want string }{
		"empty":             {"", "it has no scheme"},
		"no scheme":         {"order.db", "it has no scheme"},
		"other scheme":      {"mysql://root:secret@localhost/x", `scheme "mysql" is not known`},
		"no path":           {"sqlite:", "the path is missing"},
		"memory":            {"sqlite::memory:", "not supported"},
		"slashes":           {"sqlite:///var/x.db", "a path follows the colon at once"},
		"parameters":        {"sqlite:x.db?mode=ro", "parameters are not taken"},
		"folder":            {"sqlite:" + dir, "it is a folder"},
		"folder is a file":  {"sqlite:" + occupied + "/x.db", "its folder cannot be made"},
		"no host":           {"postgres:///", "no URL with a host"},
		"not a URL":         {"postgres://user:secret@host:port/x", "no URL with a host"},
		"no database":       {"postgres://postgres:secret@host:5432", "it names no database"},
		"bad sslmode":       {"postgres://u:secret@host:5432/x?sslmode=maybe", "xxxxx@host:5432/x?sslmode=maybe: a part of it is malformed"},
		"password as query": {"postgres://host:5432/x?password=secret&sslmode=maybe", "password=xxxxx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := database.Open(t.Context(), tc.url)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "database URL")
			require.NotContains(t, err.Error(), "secret")
			require.Equal(t, fault.Permanent, fault.KindOf(err))
		})
	}
	_, err := database.Open(t.Context(), "sqlite:"+notADatabase)
	require.ErrorContains(t, err, "text.db")
}

func TestOpenWithoutServerIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = database.Open(t.Context(), "postgres://u:secret@"+l.Addr().String()+"/x")
	require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
	require.NotContains(t, err.Error(), "secret")
	require.ErrorContains(t, err, "open database postgres://u:xxxxx@127.0.0.1")
}

func TestOpenMakesFoldersAndOddNames(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b", "50% ü&=", "x.db")
	db := open(t, "sqlite:"+path)
	require.Equal(t, 0, count(t, db))
	_, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, "sqlite", db.Dialect().String())
}

func TestClassifyByCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]fault.Kind{
		"08006": fault.Unavailable, "57P01": fault.Unavailable, "57P03": fault.Unavailable, "53300": fault.Unavailable,
		"53100": fault.Unavailable, "25006": fault.Unavailable, "40001": fault.Transient, "40P01": fault.Transient, "55P03": fault.Transient,
		"57014": fault.Transient, "42601": fault.Transient,
	} {
		err := database.Classify(&pgconn.PgError{Code: code})
		require.Equal(t, want, fault.KindOf(err), code)
	}
	for _, err := range []error{driver.ErrBadConn, &net.OpError{Op: "read", Err: errors.New("x")}, pgconn.ErrConnClosed} {
		require.Equal(t, fault.Unavailable, fault.KindOf(database.Classify(err)), err)
	}
	require.Equal(t, "postgres", database.Postgres.String())
}
