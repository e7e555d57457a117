//go:build native

package native

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/loopback"
)

// TestComposeDatabases runs what Compose gives a new PostgreSQL: each service's login reaches its own database with its own
// password, and nothing else.
func TestComposeDatabases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ports, err := loopback.Ports(1)
	require.NoError(t, err)
	s := &Servers{opts: Options{Dir: filepath.Join(dir, "servers"), LogDir: dir, ReadyTimeout: time.Minute, StopTimeout: 20 * time.Second}, servers: map[string]*server{}}
	require.NoError(t, os.MkdirAll(s.opts.Dir, 0o750))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	require.NoError(t, s.preparePostgres(t.Context(), ports[0]))
	require.NoError(t, s.Restart(t.Context(), "postgres"))

	host, port, _ := strings.Cut(s.postgres.address, ":")
	script := exec.CommandContext(t.Context(), "bash", "../../../deploy/postgres/databases.sh")
	script.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGPASSWORD="+s.postgres.password, "POSTGRES_USER=postgres")
	for _, service := range client.Services() {
		script.Env = append(script.Env, strings.ToUpper(service)+"_DATABASE_PASSWORD=secret"+service)
	}
	out, err := script.CombinedOutput()
	require.NoError(t, err, string(out))

	login := func(role, password, database string) error {
		conn, err := pgx.Connect(t.Context(), (&postgres{address: s.postgres.address, password: password}).url(role, database))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(t.Context()) }()
		_, err = conn.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS own (n int)")
		return err
	}
	for i, service := range client.Services() {
		require.NoError(t, login(service, "secret"+service, service))
		next := client.Services()[(i+1)%len(client.Services())]
		for _, database := range []string{next, "postgres", "template1"} {
			require.ErrorContains(t, login(service, "secret"+service, database), "permission denied for database", "%s in %s", service, database)
		}
		require.ErrorContains(t, login(next, "secret"+service, next), "authentication failed", "%s as %s", service, next)
	}
}
