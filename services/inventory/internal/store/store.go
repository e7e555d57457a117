// Package store keeps stock and reservations in the inventory service's database.
//
// Transactions lock reservations before stock, and rows of each in one statement before they use the first (ReadAhead,
// Lock), so that they never wait for each other in a circle.
package store

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

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

var stocks = &database.Table[rules.Stock]{
	Name: "stock",
	Fields: []database.Field[rules.Stock]{
		database.Text("sku", func(s rules.Stock) string { return s.SKU }),
		database.Int("received", func(s rules.Stock) int64 { return s.Received }),
		database.Int("available", func(s rules.Stock) int64 { return s.Available }),
		database.Int("reserved", func(s rules.Stock) int64 { return s.Reserved }),
		database.Int("shipped", func(s rules.Stock) int64 { return s.Shipped }),
	},
	Scan: func(row database.Scanner) (s rules.Stock, err error) {
		return s, row.Scan(&s.SKU, &s.Received, &s.Available, &s.Reserved, &s.Shipped)
	},
}

// List returns all stock by SKU.
func List(ctx context.Context, db *database.DB) ([]rules.Stock, error) {
	return stocks.List(ctx, db, `SELECT `+stocks.Columns()+` FROM stock ORDER BY sku`)
}

// Get returns the stock of one product, or ErrNotFound.
func Get(ctx context.Context, db *database.DB, sku string) (rules.Stock, error) {
	return found(stocks.Get(ctx, db, sku))
}

func found[R any](row R, there bool, err error) (R, error) {
	if err == nil && !there {
		err = ErrNotFound
	}
	return row, err
}

// Lock reads and locks the stock of the lines' products; of those that there are.
func Lock(ctx context.Context, tx *database.Tx, lines []events.Line) (map[string]rules.Stock, error) {
	if err := stocks.Ahead(ctx, tx, skus(lines)...); err != nil {
		return nil, err
	}
	bySKU := make(map[string]rules.Stock, len(lines))
	for _, l := range lines {
		s, there, err := stocks.Load(ctx, tx, l.SKU)
		if err != nil {
			return nil, err
		}
		if there {
			bySKU[l.SKU] = s
		}
	}
	return bySKU, nil
}

// Move locks the stock of the lines' products and writes, before the commit, what move makes of each, or returns
// ErrNotFound.
func Move(ctx context.Context, tx *database.Tx, lines []events.Line, move func(s rules.Stock, n int64) rules.Stock) error {
	if err := stocks.Ahead(ctx, tx, skus(lines)...); err != nil {
		return err
	}
	for _, l := range lines {
		s, err := found(stocks.Load(ctx, tx, l.SKU))
		if err != nil {
			return fmt.Errorf("move %d of %s: %w", l.Quantity, l.SKU, err)
		}
		stocks.Put(tx, move(s, int64(l.Quantity)))
	}
	return nil
}

func skus(lines []events.Line) []string {
	list := make([]string, len(lines))
	for i, l := range lines {
		list[i] = l.SKU
	}
	return list
}

// reservation is one with what the table has as JSON.
type reservation struct {
	rules.Reservation
	lines, shortages string
}

var reservations = &database.Table[reservation]{
	Name: "reservations", Scan: scan,
	Fields: []database.Field[reservation]{
		database.Text("order_id", func(r reservation) string { return r.OrderID }),
		database.Text("state", func(r reservation) string { return string(r.State) }),
		database.Text("lines", func(r reservation) string { return r.lines }),
		database.Text("shortages", func(r reservation) string { return r.shortages }),
		database.Time("created_at", func(r reservation) time.Time { return r.CreatedAt }).Fixed(),
		database.Time("updated_at", func(r reservation) time.Time { return r.UpdatedAt }),
	},
}

func scan(row database.Scanner) (reservation, error) {
	var r reservation
	if err := row.Scan(&r.OrderID, &r.State, &r.lines, &r.shortages, &r.CreatedAt, &r.UpdatedAt); err != nil {
		return r, err
	}
	r.CreatedAt, r.UpdatedAt = r.CreatedAt.UTC(), r.UpdatedAt.UTC()
	if err := errors.Join(json.Unmarshal([]byte(r.lines), &r.Lines), json.Unmarshal([]byte(r.shortages), &r.Shortages)); err != nil {
		return r, fmt.Errorf("reservation of order %s: %w", r.OrderID, err)
	}
	return r, nil
}

// ReadAhead reads and locks what these orders hold, and then the stock of that and of the given lines, in two statements:
// handlers then need none.
func ReadAhead(ctx context.Context, tx *database.Tx, orderIDs []string, lines []events.Line) error {
	if err := reservations.Ahead(ctx, tx, orderIDs...); err != nil {
		return err
	}
	for _, id := range orderIDs {
		r, _, err := reservations.Load(ctx, tx, id)
		if err != nil {
			return err
		}
		lines = append(lines, r.Lines...)
	}
	return stocks.Ahead(ctx, tx, skus(lines)...)
}

// LoadReservation reads and locks what an order holds, or returns ErrNotFound.
func LoadReservation(ctx context.Context, tx *database.Tx, orderID string) (rules.Reservation, error) {
	r, err := found(reservations.Load(ctx, tx, orderID))
	return r.Reservation, err
}

// GetReservation reads what an order holds, or returns ErrNotFound.
func GetReservation(ctx context.Context, db *database.DB, orderID string) (rules.Reservation, error) {
	r, err := found(reservations.Get(ctx, db, orderID))
	return r.Reservation, err
}

// PutReservation writes, before the commit, what an order holds that LoadReservation was asked for. A row that is not there
// cannot be locked, so another transaction may be faster to make it: this one then fails, and finds it in its next attempt.
func PutReservation(tx *database.Tx, r rules.Reservation) error {
	lines, err := json.Marshal(events.List[events.Line](r.Lines))
	if err != nil {
		return fmt.Errorf("encode reservation of order %s: %w", r.OrderID, err)
	}
	shortages, err := json.Marshal(events.List[events.Shortage](r.Shortages))
	if err != nil {
		return fmt.Errorf("encode reservation of order %s: %w", r.OrderID, err)
	}
	reservations.Put(tx, reservation{r, string(lines), string(shortages)})
	return nil
}
