package native

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

// postgresUser is whom PostgreSQL runs as when we are root, which it refuses to be; Debian's package makes it.
const postgresUser = "postgres"

// postgres is the server's address and the password of all its logins.
type postgres struct{ address, password string }

func (p *postgres) url(login, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(login, p.password), Host: p.address, Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// postgresBin is the folder of PostgreSQL's programs: that of PATH, or the newest of Debian's, which are not in PATH.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.Join(errors.New("no initdb in PATH or /usr/lib/postgresql"), err)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 for what is no version
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(x, y string) int { return version(x) - version(y) })), nil
}

// preparePostgres makes the server's folder when it is new, and registers it.
func (s *Servers) preparePostgres(ctx context.Context, port int) error {
	bin, err := postgresBin()
	if err != nil {
		return err
	}
	as, err := postgresAs()
	if err != nil {
		return err
	}
	password, err := s.password()
	if err != nil {
		return err
	}
	s.postgres = &postgres{address: loopback.Address(port), password: password}
	home := filepath.Join(s.opts.Dir, "postgres")
	data := filepath.Join(home, "data")
	if err := os.MkdirAll(home, 0o750); err != nil {
		return err
	}
	if as != nil {
		if err := os.Chown(home, int(as.UID), int(as.GID)); err != nil {
			return err
		}
	}
	if err := s.initialize(ctx, bin, home, data, as); err != nil {
		return err
	}
	if err := disown(filepath.Join(data, "postmaster.pid")); err != nil {
		return err
	}
	s.add(process.Config{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Env: os.Environ(), User: as,
		// The fast shutdown: those who are connected are cut off.
		StopSignal: syscall.SIGINT,
		Args: []string{
			"-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			// For change capture; and six services with a pool each, beside whoever looks on.
			"-c", "wal_level=logical", "-c", "max_connections=200",
		},
	}, s.postgres.serves)
	return nil
}

// postgresAs is whom PostgreSQL is to run as: nobody else, unless we are root.
func postgresAs() (*process.User, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else
	}
	who, err := user.Lookup(postgresUser)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	uid, uidErr := strconv.ParseUint(who.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(who.Gid, 10, 32)
	return &process.User{UID: uint32(uid), GID: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// password is drawn once a folder; it lies beside the data, for us alone.
func (s *Servers) password() (string, error) {
	path := filepath.Join(s.opts.Dir, "postgres-password")
	text, err := os.ReadFile(filepath.Clean(path))
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	drawn := rand.Text()
	return drawn, os.WriteFile(path, []byte(drawn+"\n"), 0o600)
}

// initialize runs initdb, into a folder aside: one that a crash left half made is made anew.
func (s *Servers) initialize(ctx context.Context, bin, home, data string, as *process.User) error {
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	begun := filepath.Join(home, "begun")
	if err := os.RemoveAll(begun); err != nil {
		return err
	}
	initdb := process.New(process.Config{
		Name: "initdb", Path: filepath.Join(bin, "initdb"), Env: append(os.Environ(), "LC_ALL=C"), User: as,
		Log: filepath.Join(s.opts.LogDir, "initdb.log"), StopTimeout: s.opts.StopTimeout,
		Args: []string{
			"-D", begun, "-U", postgresUser, "--auth=scram-sha-256", "--pwfile=" + filepath.Join(s.opts.Dir, "postgres-password"),
			"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
		},
	})
	defer func() { _ = initdb.Close(ctx) }() // ended, or killed with ctx
	life, err := initdb.Start()
	if err != nil {
		return err
	}
	select {
	case <-life.Gone():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if life.State() != "exit status 0" {
		return fmt.Errorf("make PostgreSQL's folder: initdb ended with %s; its log ends:\n%s", life.State(), initdb.Tail())
	}
	return os.Rename(begun, data)
}

// disown lets PostgreSQL start although the process that a crash left in its lock file seems to be there: what was killed
// with its parent may stay a zombie for good, and answers to signals. The folder is locked by us, so nobody else runs
// it. The file stays, for PostgreSQL itself to look whether the old server's memory is still in use; with the number of
// our own process in it, which it knows not to be another server.
func disown(path string) error {
	text, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	return os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o600)
}

func (p *postgres) serves(ctx context.Context) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (p *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return pgx.Connect(ctx, p.url(postgresUser, postgresUser))
}

// provide makes the databases that are missing, each with a login that reaches this one and no other.
func (p *postgres) provide(ctx context.Context, names []string) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what failed was said before
	for _, name := range names {
		id := pgx.Identifier{name}.Sanitize()
		for _, step := range []struct{ unless, do string }{
			{"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", "CREATE ROLE " + id + " LOGIN PASSWORD '" + p.password + "'"},
			{"SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", "CREATE DATABASE " + id + " OWNER " + id},
		} {
			var there bool
			if err := conn.QueryRow(ctx, step.unless, name).Scan(&there); err != nil {
				return fmt.Errorf("database %s: %w", name, err)
			}
			if there {
				continue
			}
			if _, err := conn.Exec(ctx, step.do); err != nil {
				return fmt.Errorf("database %s: %w", name, err)
			}
		}
		if _, err := conn.Exec(ctx, "REVOKE CONNECT ON DATABASE "+id+" FROM PUBLIC"); err != nil {
			return fmt.Errorf("database %s: %w", name, err)
		}
	}
	return nil
}
