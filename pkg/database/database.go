package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/pkg/fault"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	write   *sql.DB
	read    *sql.DB // the same as write on PostgreSQL
	path    string  // of the file, on SQLite
}

// Close waits for queries under way and closes all connections.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Dialect tells which database it is.
func (db *DB) Dialect() Dialect { return db.dialect }

// Ping returns nil when the database answers within two seconds, and otherwise an Unavailable error.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	// A query, because SQLite's ping touches no file.
	var one int
	if err := db.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fault.Unavailablef("database: %w", err)
	}
	return nil
}

// QueryContext reads outside of transactions: what was last committed.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := db.read.QueryContext(ctx, query, args...)
	return rows, Classify(err)
}

// QueryRowContext reads one row outside of transactions. Its error comes with Scan, for Classify.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return db.read.QueryRowContext(ctx, query, args...)
}

// Tx is a transaction. It is for one goroutine, and only until the function that got it returns. Commit and Rollback
// are InTx's business.
type Tx struct {
	*sql.Tx
	dialect Dialect
	after   []func()
}

// Dialect tells which database it is.
func (tx *Tx) Dialect() Dialect { return tx.dialect }

// ForUpdate is what ends a SELECT whose rows the transaction is going to change: " FOR UPDATE" on PostgreSQL, nothing
// on SQLite, where a transaction is alone from its begin.
func (tx *Tx) ForUpdate() string {
	if tx.dialect == SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// AfterCommit has fn called once the transaction is committed, after those given before, on the same goroutine and
// before InTx returns. It is not called when the transaction does not commit or its commit's answer is lost.
func (tx *Tx) AfterCommit(fn func()) { tx.after = append(tx.after, fn) }

type inTxKey struct{ db *DB }

// InTx runs fn in a transaction: commits when it returns nil, rolls back when it returns an error, panics or ends its
// goroutine. The error is classified, with whatever mark fn gave it kept.
//
// On SQLite it waits for other transactions until ctx ends. A second transaction of the same database inside of fn,
// with the context that fn got, is refused as Permanent: on SQLite it would wait for itself.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	if ctx.Value(inTxKey{db}) != nil {
		return fault.Permanentf("database: a transaction was begun inside of a transaction")
	}
	sqlTx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return classifyIn(ctx, fmt.Errorf("begin transaction: %w", err))
	}
	// Deferred rather than recovered, so that a panic keeps its stack. After a commit it has nothing to do; when the
	// rollback itself fails, the connection is broken and the server rolls back.
	defer func() { _ = sqlTx.Rollback() }()

	tx := &Tx{Tx: sqlTx, dialect: db.dialect}
	if err := fn(context.WithValue(ctx, inTxKey{db}, true), tx); err != nil {
		return classifyIn(ctx, err)
	}
	if err := sqlTx.Commit(); err != nil {
		return classifyIn(ctx, fmt.Errorf("commit transaction: %w", err))
	}
	for _, after := range tx.after {
		after()
	}
	return nil
}

// classifyIn also knows that the context was cancelled: statements then fail in several ways that do not say so
// (interrupted, transaction already rolled back).
func classifyIn(ctx context.Context, err error) error {
	err = Classify(err)
	if fault.KindOf(err) == fault.Transient && errors.Is(ctx.Err(), context.Canceled) {
		return fault.AsUnavailable(err)
	}
	return err
}
