package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Classify marks what a driver said: Unavailable when the database is away or full, or the work was cancelled;
// Transient when the same transaction may work later (serialization, deadlock, busy, lock timeout). Everything else
// stays as it is: sql.ErrNoRows, broken constraints (IsUnique, IsCheck), wrong SQL, and errors marked before.
func Classify(err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) || fault.KindOf(err) == fault.Permanent {
		return err
	}
	switch {
	case isUnavailable(err):
		return fault.AsUnavailable(err)
	case isTransient(err):
		return fault.AsTransient(err)
	default:
		return err
	}
}

func isUnavailable(err error) bool {
	if fault.KindOf(err) == fault.Unavailable { // marked before, or cancelled
		return true
	}
	var (
		pg      *pgconn.PgError
		connect *pgconn.ConnectError
		lite    *sqlite.Error
		network net.Error
	)
	switch {
	case errors.As(err, &connect):
		return true
	case errors.As(err, &pg):
		// Connection exceptions, insufficient resources (too many connections, disk full), and the ways in which an
		// operator or a crash ends a connection, I/O errors, a server that only reads: after a failover the pool still
		// has connections to the old primary. 57014 is not among them: a query's own timeout.
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57P0") ||
			strings.HasPrefix(pg.Code, "58") || pg.Code == "25006"
	case errors.As(err, &lite):
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
			return true
		}
		return false
	case errors.Is(err, context.DeadlineExceeded):
		return false // it is a net.Error too, and says nothing of the database
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, pgconn.ErrConnClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	case errors.As(err, &network):
		return true
	}
	return false
}

// IsConflict tells whether err is the database's word that transactions stood in each other's way: serialization
// failure, deadlock, lock timeout, busy.
func IsConflict(err error) bool { return isTransient(err) }

func isTransient(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", "55P03": // serialization failure, deadlock, lock timeout
			return true
		}
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
			return true
		}
	}
	return false
}

// IsUnique tells whether err is a broken primary key or unique constraint.
func IsUnique(err error) bool {
	return broke(err, "23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID)
}

// IsCheck tells whether err is a broken CHECK constraint.
func IsCheck(err error) bool {
	return broke(err, "23514", sqlite3.SQLITE_CONSTRAINT_CHECK)
}

func broke(err error, state string, codes ...int) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == state
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		for _, code := range codes {
			if lite.Code() == code {
				return true
			}
		}
	}
	return false
}
