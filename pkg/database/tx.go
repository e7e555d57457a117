package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Tx is a transaction. It is for one goroutine, and only until the function that got it returns. Commit and Rollback
// are InTx's business.
//
// A round trip costs more than most statements. On PostgreSQL the begin goes out with the first statement, what is given
// to Later with the next one, and the commit with the last: so a transaction that reads by Later, waits, and writes by Later
// is two round trips.
type Tx struct {
	db *DB
	// lite is SQLite's transaction, conn PostgreSQL's connection.
	lite *sql.Tx
	conn *sql.Conn
	// waiting has not been sent; begun tells whether anything has.
	waiting []Statement
	begun   bool
	// broken is why nothing may be committed, though the function may not have said so.
	broken error

	after  []func()
	putOff map[any]PutOff
	order  []PutOff // of putOff
	writes int
}

// Statement is one for Later.
type Statement struct {
	Query string
	Args  []any
	// Row, if set, is given each row of the result; its error is the statement's.
	Row func(Scanner) error
	// Failed, if set, is given why the statement failed, and returns the error to tell. Nothing can be refused here
	// because of what a statement did: the commit may have gone out with it. Let the database refuse it, by a constraint.
	Failed func(err error) error

	touched *int64
}

// Scanner is *sql.Row, *sql.Rows or what else has the columns of a row.
type Scanner interface{ Scan(dest ...any) error }

var errRolledBack = errors.New("the database rolled the transaction back instead of committing it")

// Later has a statement executed in its order, not later than the next one that is not given to Later, Wait, or the commit.
// Its error is that of whatever it goes out with; on SQLite, which has no round trips, it is executed and its error
// returned at once.
func (tx *Tx) Later(ctx context.Context, s Statement) error {
	if s.Row == nil {
		tx.writes++
	}
	if tx.lite != nil {
		return s.run(ctx, tx.lite)
	}
	tx.waiting = append(tx.waiting, s)
	return nil
}

// Wait returns when all that was given to Later has been executed.
func (tx *Tx) Wait(ctx context.Context) error { return tx.send(ctx) }

// run executes the statement on SQLite.
func (s Statement) run(ctx context.Context, lite *sql.Tx) (err error) {
	defer func() { err = s.failed(err) }()
	if s.Row == nil {
		_, err = lite.ExecContext(ctx, s.Query, s.Args...)
		return err
	}
	rows, err := lite.QueryContext(ctx, s.Query, s.Args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := s.Row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s Statement) failed(err error) error {
	if err != nil && s.Failed != nil {
		return s.Failed(err)
	}
	return err
}

// send executes what waits and then more, in one round trip.
func (tx *Tx) send(ctx context.Context, more ...Statement) error {
	if len(tx.waiting)+len(more) == 0 || tx.conn == nil {
		return nil
	}
	var all []Statement
	if !tx.begun {
		all = append(all, Statement{Query: "begin"})
	}
	all = append(append(all, tx.waiting...), more...)
	tx.waiting, tx.begun = nil, true
	var batch pgx.Batch
	for _, s := range all {
		batch.Queue(s.Query, s.Args...)
	}
	return tx.conn.Raw(func(raw any) (err error) {
		conn, is := raw.(*stdlib.Conn)
		if !is {
			return fmt.Errorf("a connection to PostgreSQL is a %T", raw)
		}
		results := conn.Conn().SendBatch(ctx, &batch)
		defer func() {
			if closing := results.Close(); err == nil {
				err = closing
			}
		}()
		for _, s := range all {
			if err := s.result(results); err != nil {
				return err
			}
		}
		return nil
	})
}

// result takes the statement's result off the batch.
func (s Statement) result(results pgx.BatchResults) (err error) {
	defer func() { err = s.failed(err) }()
	if s.Row == nil {
		tag, err := results.Exec()
		if err == nil && s.Query == "commit" && tag.String() != "COMMIT" {
			err = errRolledBack
		}
		if s.touched != nil {
			*s.touched = tag.RowsAffected()
		}
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := s.Row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ExecContext executes a statement that changes something.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tx.writes++
	if tx.lite != nil {
		return tx.lite.ExecContext(ctx, query, args...)
	}
	var n int64
	if err := tx.send(ctx, Statement{Query: query, Args: args, touched: &n}); err != nil {
		return nil, err
	}
	return driver.RowsAffected(n), nil
}

// QueryContext reads rows, which must be closed before the next statement.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if tx.lite != nil {
		return tx.lite.QueryContext(ctx, query, args...)
	}
	if err := tx.begin(ctx); err != nil {
		return nil, err
	}
	return tx.conn.QueryContext(ctx, query, args...)
}

// begin makes sure that the transaction has begun and nothing waits.
func (tx *Tx) begin(ctx context.Context) error {
	if !tx.begun && len(tx.waiting) == 0 {
		tx.begun = true
		_, err := tx.conn.ExecContext(ctx, "begin")
		return err
	}
	return tx.send(ctx)
}

// Row is one row of QueryRowContext.
type Row struct {
	row Scanner
	err error
}

// Scan reads the row's columns; sql.ErrNoRows when there is none.
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.row.Scan(dest...)
}

// QueryRowContext reads one row. Its error comes with Scan.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) Row {
	if tx.lite != nil {
		return Row{row: tx.lite.QueryRowContext(ctx, query, args...)}
	}
	if err := tx.begin(ctx); err != nil {
		return Row{err: err}
	}
	return Row{row: tx.conn.QueryRowContext(ctx, query, args...)}
}

// rollbackTimeout bounds the end of a transaction that did not commit. A connection that does not get to it is thrown away,
// and the server rolls back.
const rollbackTimeout = 5 * time.Second

// open begins a transaction; close ends it if it was not committed.
func (db *DB) open(ctx context.Context) (tx *Tx, err error) {
	tx = &Tx{db: db}
	if db.dialect == SQLite {
		tx.lite, err = db.write.BeginTx(ctx, nil)
	} else {
		tx.conn, err = db.write.Conn(ctx)
	}
	return tx, err
}

func (tx *Tx) commit(ctx context.Context) error {
	if tx.lite != nil {
		return tx.lite.Commit()
	}
	if !tx.begun && len(tx.waiting) == 0 {
		return nil
	}
	if slices.ContainsFunc(tx.waiting, func(s Statement) bool { return s.Row != nil }) {
		if err := tx.send(ctx); err != nil { // a row may be refused
			return err
		}
	}
	err := tx.send(ctx, Statement{Query: "commit"})
	if err == nil {
		tx.begun = false
	}
	return err
}

func (tx *Tx) close() {
	if tx.lite != nil {
		_ = tx.lite.Rollback() // after a commit it has nothing to do
		return
	}
	if tx.begun {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
		defer cancel()
		if _, err := tx.conn.ExecContext(ctx, "rollback"); err != nil {
			_ = tx.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	_ = tx.conn.Close() // it goes back to the pool
}
