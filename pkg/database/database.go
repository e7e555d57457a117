package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"

	"github.com/orderflow/orderflow/pkg/fault"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	write   *sql.DB
	read    *sql.DB  // the same as write on PostgreSQL
	path    string   // of the file, on SQLite
	silence *silence // on PostgreSQL
}

// Close waits for queries under way and closes all connections.
func (db *DB) Close() error {
	if db.read == db.write {
		err := db.write.Close()
		if errors.Is(err, net.ErrClosed) {
			return nil // silence was faster
		}
		return err
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

// ExecContext runs one statement in a transaction of its own: on PostgreSQL that is one round trip instead of three.
func (db *DB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if ctx.Value(inTxKey{db}) != nil {
		return nil, fault.Permanentf("database: a statement of its own was run inside of a transaction")
	}
	result, err := db.write.ExecContext(ctx, query, args...)
	return result, classifyIn(ctx, err)
}

// Dialect tells which database it is.
func (tx *Tx) Dialect() Dialect { return tx.db.dialect }

// ForUpdate is what ends a SELECT whose rows the transaction is going to change: " FOR UPDATE" on PostgreSQL, nothing
// on SQLite, where a transaction is alone from its begin.
func (tx *Tx) ForUpdate() string {
	if tx.db.dialect == SQLite {
		return ""
	}
	return " FOR UPDATE"
}

// AfterCommit has fn called once the transaction is committed, after those given before, on the same goroutine and
// before InTx returns. It is not called when the transaction does not commit or its commit's answer is lost.
func (tx *Tx) AfterCommit(fn func()) { tx.after = append(tx.after, fn) }

// Savepoint runs fn as a part of the transaction that can fail by itself. undone is why what fn did was undone, and the
// hooks that it gave to AfterCommit and what it put off forgotten: fn's error, or that of a statement which fn kept to
// itself. err is not nil when the transaction cannot go on.
func (tx *Tx) Savepoint(ctx context.Context, fn func() error) (undone, err error) {
	if err := tx.Flush(ctx); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `SAVEPOINT part`); err != nil {
		return nil, fmt.Errorf("set savepoint: %w", Classify(err))
	}
	hooks := len(tx.after)
	if undone = fn(); undone == nil {
		undone = tx.Flush(ctx)
	}
	if undone == nil {
		if _, undone = tx.ExecContext(ctx, `RELEASE SAVEPOINT part`); undone == nil {
			return nil, nil
		}
		undone = fmt.Errorf("release savepoint: %w", Classify(undone))
	}
	tx.waiting = nil
	tx.forget()
	clear(tx.after[hooks:])
	tx.after = tx.after[:hooks]
	for _, statement := range []string{`ROLLBACK TO SAVEPOINT part`, `RELEASE SAVEPOINT part`} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			tx.broken = fmt.Errorf("roll back to savepoint: %w", Classify(err))
			return undone, tx.broken
		}
	}
	return undone, nil
}

// Within makes ctx one of the transaction's: a second transaction of the same database that is begun under it is
// refused, as it is under the context that InTx gives.
func (tx *Tx) Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, inTxKey{tx.db}, true)
}

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
	tx, err := db.open(ctx)
	if err != nil {
		return classifyIn(ctx, fmt.Errorf("begin transaction: %w", err))
	}
	// Deferred rather than recovered, so that a panic keeps its stack.
	defer tx.close()

	if err := fn(tx.Within(ctx), tx); err != nil {
		return classifyIn(ctx, err)
	}
	if tx.broken != nil {
		return classifyIn(ctx, tx.broken)
	}
	if err := tx.Flush(tx.Within(ctx)); err != nil {
		return classifyIn(ctx, err)
	}
	if err := tx.commit(ctx); err != nil {
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
