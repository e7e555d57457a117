package database

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/orderflow/orderflow/pkg/fault"
)

// migrateTimeout bounds how long one process waits for another that migrates the same database.
const migrateTimeout = 5 * time.Minute

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// Migrate brings the tables of one owner (a package or a service, by name) to their newest version. fsys holds its
// migrations at the top, named NNNN_what.sql in goose's format, with {{identity}}, {{timestamp}}, {{bytes}}, {{json}} and
// {{postgres}} where the databases differ. What has been applied is kept in the table goose_<name>.
//
// Any number of processes may migrate at once: one does the work, the others wait.
func (db *DB) Migrate(ctx context.Context, name string, fsys fs.FS) error {
	if !namePattern.MatchString(name) {
		return fault.Permanentf("migrate %q: a name of small letters, digits and _ is wanted", name)
	}
	if err := db.migrate(ctx, name, fsys); err != nil {
		return classifyIn(ctx, fmt.Errorf("migrate %s: %w", name, err))
	}
	return nil
}

func (db *DB) migrate(ctx context.Context, name string, fsys fs.FS) (err error) {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	opts := []goose.ProviderOption{goose.WithTableName("goose_" + name), goose.WithDisableGlobalRegistry(true)}
	dialect := goose.DialectSQLite3
	if db.dialect == Postgres {
		dialect = goose.DialectPostgres
		defer db.silence.suspend()() // an index of a large table takes long
		// Probes once a second; how long is a matter of ctx.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(migrateTimeout/time.Second)))
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	} else {
		unlock, err := lockFile(ctx, db.path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	// goose lists and reads fsys; the provider is not closed, because it would close the database.
	provider, err := goose.NewProvider(dialect, db.write, translated{fsys, db.dialect}, opts...)
	if err != nil {
		return fault.AsPermanent(err)
	}
	_, err = provider.Up(ctx)
	return err
}

// lockFile keeps other processes from migrating the same SQLite file. goose looks up what is to be done before it
// takes SQLite's write lock, so two of them could apply one migration twice. The lock is SQLite's own, on an empty
// database beside the first: it ends with the process that holds it, however that ends. The empty file stays, because
// removing it would take the lock from under another.
func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	dsn := fmt.Sprintf("file:%s?_pragma=busy_timeout(%d)&_txlock=exclusive",
		(&url.URL{Path: path + "-migrate"}).EscapedPath(), migrateTimeout.Milliseconds())
	pool, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for another process that migrates: %w", err), pool.Close())
	}
	return func() error { return errors.Join(tx.Rollback(), pool.Close()) }, nil
}

// Folder is what Migrate wants of files that were embedded with "//go:embed migrations/*.sql". It panics when they
// were embedded otherwise, which a first start shows.
func Folder(files embed.FS) fs.FS {
	folder, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err)
	}
	return folder
}
