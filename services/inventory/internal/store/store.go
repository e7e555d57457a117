// Package store keeps stock and reservations in the inventory service's database.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes and seeds the tables.
func Migrations() fs.FS { return database.Folder(files) }

// ErrNotFound: there is no such product or reservation.
var ErrNotFound = errors.New("not found")

// querier is a transaction or the read pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

const stockColumns = `sku, received, available, reserved, shipped`

// List returns all stock by SKU.
func List(ctx context.Context, db *database.DB) ([]rules.Stock, error) {
	return stock(ctx, db, `SELECT `+stockColumns+` FROM stock ORDER BY sku`)
}

// Get returns the stock of one product.
func Get(ctx context.Context, db *database.DB, sku string) (rules.Stock, error) {
	list, err := stock(ctx, db, `SELECT `+stockColumns+` FROM stock WHERE sku = $1`, sku)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return rules.Stock{}, err
	}
	return list[0], nil
}

// Lock reads and locks the stock of the lines' products, in the order of their SKUs, so that two orders that share
// products never wait for each other in a circle.
func Lock(ctx context.Context, tx *database.Tx, lines []events.Line) (map[string]rules.Stock, error) {
	args, places := make([]any, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		args[i], places[i] = l.SKU, fmt.Sprintf("$%d", i+1)
	}
	list, err := stock(ctx, tx, `SELECT `+stockColumns+` FROM stock WHERE sku IN (`+strings.Join(places, ", ")+`)
		ORDER BY sku`+tx.ForUpdate(), args...)
	if err != nil {
		return nil, err
	}
	bySKU := make(map[string]rules.Stock, len(list))
	for _, s := range list {
		bySKU[s.SKU] = s
	}
	return bySKU, nil
}

func stock(ctx context.Context, q querier, query string, args ...any) ([]rules.Stock, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read stock: %w", database.Classify(err))
	}
	defer rows.Close()
	var list []rules.Stock
	for rows.Next() {
		var s rules.Stock
		if err := rows.Scan(&s.SKU, &s.Received, &s.Available, &s.Reserved, &s.Shipped); err != nil {
			return nil, fmt.Errorf("read stock: %w", err)
		}
		list = append(list, s)
	}
	return list, database.Classify(rows.Err())
}

// The moves of stock, as changes of a row by $2 pieces.
const (
	toReserved    = `UPDATE stock SET available = available - $2, reserved = reserved + $2 WHERE sku = $1`
	toAvailable   = `UPDATE stock SET available = available + $2, reserved = reserved - $2 WHERE sku = $1`
	toShipped     = `UPDATE stock SET reserved = reserved - $2, shipped = shipped + $2 WHERE sku = $1`
	fromReceiving = `UPDATE stock SET received = received + $2, available = available + $2 WHERE sku = $1`
)

// Reserve takes the lines out of what is available.
func Reserve(ctx context.Context, tx *database.Tx, lines []events.Line) error {
	return move(ctx, tx, toReserved, lines)
}

// Release gives reserved lines back.
func Release(ctx context.Context, tx *database.Tx, lines []events.Line) error {
	return lockAndMove(ctx, tx, toAvailable, lines)
}

// Ship takes reserved lines out of the house.
func Ship(ctx context.Context, tx *database.Tx, lines []events.Line) error {
	return lockAndMove(ctx, tx, toShipped, lines)
}

// lockAndMove locks first, as a reservation does: the database's order of SKUs, which is its collation's, need not be
// that of the lines, and rows that are locked in two orders end in deadlocks.
func lockAndMove(ctx context.Context, tx *database.Tx, update string, lines []events.Line) error {
	if len(lines) > 1 {
		if _, err := Lock(ctx, tx, lines); err != nil {
			return err
		}
	}
	return move(ctx, tx, update, lines)
}

// Receive adds pieces of a product.
func Receive(ctx context.Context, tx *database.Tx, sku string, quantity int) error {
	return move(ctx, tx, fromReceiving, []events.Line{{SKU: sku, Quantity: quantity}})
}

func move(ctx context.Context, tx *database.Tx, update string, lines []events.Line) error {
	for _, l := range lines {
		result, err := tx.ExecContext(ctx, update, l.SKU, l.Quantity)
		if err != nil {
			return fmt.Errorf("move %d of %s: %w", l.Quantity, l.SKU, database.Classify(err))
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("move %d of %s: %w", l.Quantity, l.SKU, errors.Join(ErrNotFound, err))
		}
	}
	return nil
}

const reservationColumns = `order_id, state, lines, shortages, created_at, updated_at`

// LoadReservation reads and locks what an order holds, or returns ErrNotFound.
func LoadReservation(ctx context.Context, tx *database.Tx, orderID string) (rules.Reservation, error) {
	return reservation(tx.QueryRowContext(ctx,
		`SELECT `+reservationColumns+` FROM reservations WHERE order_id = $1`+tx.ForUpdate(), orderID))
}

// GetReservation reads what an order holds, or returns ErrNotFound.
func GetReservation(ctx context.Context, db *database.DB, orderID string) (rules.Reservation, error) {
	return reservation(db.QueryRowContext(ctx, `SELECT `+reservationColumns+` FROM reservations WHERE order_id = $1`, orderID))
}

func reservation(row database.Scanner) (rules.Reservation, error) {
	var r rules.Reservation
	var lines, shortages string
	err := row.Scan(&r.OrderID, &r.State, &lines, &shortages, &r.CreatedAt, &r.UpdatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return r, ErrNotFound
	}
	if err != nil {
		return r, fmt.Errorf("read reservation: %w", database.Classify(err))
	}
	r.CreatedAt, r.UpdatedAt = r.CreatedAt.UTC(), r.UpdatedAt.UTC()
	if err := errors.Join(json.Unmarshal([]byte(lines), &r.Lines), json.Unmarshal([]byte(shortages), &r.Shortages)); err != nil {
		return r, fmt.Errorf("reservation of order %s: %w", r.OrderID, err)
	}
	return r, nil
}

// InsertReservation writes what an order holds that held nothing before. A row that is not there cannot be locked, so
// another transaction may have been faster: that is an error, and the next attempt finds its row.
func InsertReservation(ctx context.Context, tx *database.Tx, r rules.Reservation) error {
	return write(ctx, tx, r, `INSERT INTO reservations (`+reservationColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`, r.CreatedAt.UTC())
}

// UpdateReservation writes what became of a reservation that LoadReservation has locked.
func UpdateReservation(ctx context.Context, tx *database.Tx, r rules.Reservation) error {
	return write(ctx, tx, r, `UPDATE reservations SET state = $2, lines = $3, shortages = $4, updated_at = $5 WHERE order_id = $1`)
}

func write(ctx context.Context, tx *database.Tx, r rules.Reservation, query string, created ...any) error {
	lines, err := json.Marshal(events.List[events.Line](r.Lines))
	if err != nil {
		return fmt.Errorf("encode reservation of order %s: %w", r.OrderID, err)
	}
	shortages, err := json.Marshal(events.List[events.Shortage](r.Shortages))
	if err != nil {
		return fmt.Errorf("encode reservation of order %s: %w", r.OrderID, err)
	}
	args := append([]any{r.OrderID, string(r.State), string(lines), string(shortages)}, created...)
	if _, err := tx.ExecContext(ctx, query, append(args, r.UpdatedAt.UTC())...); err != nil {
		return fmt.Errorf("save reservation of order %s: %w", r.OrderID, database.Classify(err))
	}
	return nil
}
