package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/orderflow/orderflow/pkg/fault"
)

// How long an operation may wait that has nothing else to bound it.
const (
	connectTimeout = 5 * time.Second
	pingTimeout    = 2 * time.Second
	// busyTimeout is how long SQLite waits for another process that writes the same file.
	busyTimeout = 5 * time.Second
	// lockTimeout is how long PostgreSQL waits for a row lock before the transaction fails as Transient.
	lockTimeout = 10 * time.Second
	// idleTimeout ends PostgreSQL transactions of a process that stopped in the middle of one, and frees its locks.
	idleTimeout = time.Minute
	// silenceTimeout is how long PostgreSQL may take over a statement: several waits for locks, and much work.
	silenceTimeout = time.Minute
)

const allowedURLs = "allowed: postgres://user:password@host:5432/name, sqlite:relative/path.db, sqlite:/absolute/path.db"

type options struct {
	maxConns int
	silence  time.Duration
}

// Option changes how a database is opened.
type Option func(*options)

// MaxConns sets how many connections may be open at once: on PostgreSQL all of them (default 10), on SQLite those that
// only read (default 4; there is one more that writes).
func MaxConns(n int) Option { return func(o *options) { o.maxConns = n } }

// Open opens the database that rawURL names and makes sure that it answers. A wrong URL, user or name is a Permanent
// error that says what is allowed; a database that is away is Unavailable. SQLite files and their folders are created.
func Open(ctx context.Context, rawURL string, opts ...Option) (*DB, error) {
	o := options{silence: silenceTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	scheme, rest, ok := strings.Cut(rawURL, ":")
	switch {
	case !ok:
		return nil, fault.Permanentf("database URL: it has no scheme; %s", allowedURLs)
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(ctx, rawURL, o)
	case scheme == "sqlite":
		return openSQLite(ctx, rest, o)
	default:
		return nil, fault.Permanentf("database URL: scheme %q is not known; %s", scheme, allowedURLs)
	}
}

func openPostgres(ctx context.Context, rawURL string, o options) (*DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" && u.Query().Get("host") == "" {
		// What cannot be parsed is not shown: there is no telling where its password is.
		return nil, fault.Permanentf("database URL: it begins with postgres: but is no URL with a host; %s", allowedURLs)
	}
	shown := mask(u)
	config, err := pgx.ParseConfig(rawURL)
	if err != nil {
		return nil, fault.Permanentf("database URL %s: a part of it is malformed (port, sslmode or another parameter); %s", shown, allowedURLs)
	}
	if config.Database == "" {
		return nil, fault.Permanentf("database URL %s: it names no database; %s", shown, allowedURLs)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	for name, value := range map[string]string{
		"lock_timeout":                        fmt.Sprint(lockTimeout.Milliseconds()),
		"idle_in_transaction_session_timeout": fmt.Sprint(idleTimeout.Milliseconds()),
		// Plans are made once a connection, and are the same whatever is in the tables: look up by index, row by row, in the
		// index's order. Left to itself, PostgreSQL either keeps a plan that was made when its table was small, and reads
		// all of it for as long as nobody has analyzed what it has grown to, or plans each time, at a fifth of its work
		// for a batch, whose arrays the planner copies. These forbid nothing: a query without an index still reads it all.
		"plan_cache_mode":   "force_generic_plan",
		"enable_seqscan":    "off",
		"enable_bitmapscan": "off",
		"enable_hashjoin":   "off",
		"enable_mergejoin":  "off",
		"enable_sort":       "off",
		"jit":               "off", // which would take what is switched off for dear enough to compile
	} {
		if config.RuntimeParams[name] == "" {
			config.RuntimeParams[name] = value
		}
	}
	quiet := &silence{limit: o.silence}
	config.DialFunc = quiet.over(config.DialFunc)
	pool := stdlib.OpenDB(*config, stdlib.OptionShouldPing(shouldPing), stdlib.OptionAfterConnect(func(_ context.Context, c *pgx.Conn) error {
		c.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		registerArrays(c.TypeMap())
		return nil
	}))
	n := o.maxConns
	if n <= 0 {
		n = 10
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	if err := pool.PingContext(ctx); err != nil {
		err = fmt.Errorf("open database %s: %w", shown, err)
		return nil, errors.Join(openKind(err), pool.Close())
	}
	return &DB{dialect: Postgres, write: pool, read: pool, silence: quiet}, nil
}

// openKind tells a wrong setting, which no waiting cures, from a database that is away.
func openKind(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || pg.Code == "3D000") {
		return fault.AsPermanent(err) // refused user or password; no such database
	}
	return fault.AsUnavailable(err)
}

// mask returns u without its password, which may also stand among the parameters.
func mask(u *url.URL) string {
	masked := *u
	q := masked.Query()
	for name := range q {
		if strings.Contains(strings.ToLower(name), "password") {
			q.Set(name, "xxxxx")
		}
	}
	masked.RawQuery = q.Encode()
	return masked.Redacted()
}

func openSQLite(ctx context.Context, path string, o options) (*DB, error) {
	switch {
	case path == "":
		return nil, fault.Permanentf("database URL sqlite: the path is missing; %s", allowedURLs)
	case strings.HasPrefix(path, ":"):
		return nil, fault.Permanentf("database URL sqlite:%s: databases in memory are not supported, readers could not see them; %s", path, allowedURLs)
	case strings.HasPrefix(path, "//"):
		return nil, fault.Permanentf("database URL sqlite:%s: a path follows the colon at once; %s", path, allowedURLs)
	case strings.ContainsAny(path, "?#\x00"):
		return nil, fault.Permanentf("database URL sqlite:%q: a path without ?, # and NUL is wanted, parameters are not taken; %s", path, allowedURLs)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fault.Permanentf("database URL sqlite:%s: it is a folder, not a file; %s", path, allowedURLs)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fault.Permanentf("database URL sqlite:%s: its folder cannot be made: %w", path, err)
	}
	write, err := openPool(path, 1, "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	n := o.maxConns
	if n <= 0 {
		n = 4
	}
	read, err := openPool(path, n, "&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	db := &DB{dialect: SQLite, write: write, read: read, path: path}
	// The writer goes first: it makes the file and sets its journal mode, which readers cannot.
	if err := pingSQLite(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("open database sqlite:%s: %w", path, err), db.Close())
	}
	return db, nil
}

func openPool(path string, n int, extra string) (*sql.DB, error) {
	pool, err := sql.Open("sqlite", sqliteDSN(path)+extra)
	if err != nil {
		return nil, fault.Permanentf("open database sqlite:%s: %w", path, err)
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

func sqliteDSN(path string) string {
	name := (&url.URL{Path: path}).EscapedPath()
	return fmt.Sprintf("file:%s?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+
		"&_pragma=foreign_keys(1)&_time_format=sqlite&_timezone=UTC", name, busyTimeout.Milliseconds())
}

// pingSQLite opens the writer's connection. Two processes that make one file WAL at the same moment can get
// SQLITE_BUSY at once, whatever the busy timeout, because waiting would be a deadlock; so it tries again, bounded.
func pingSQLite(ctx context.Context, write *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, 2*busyTimeout)
	defer cancel()
	for {
		err := Classify(write.PingContext(ctx))
		if err == nil || fault.KindOf(err) == fault.Unavailable || !isTransient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
