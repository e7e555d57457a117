// Package store keeps products and orders in the order service's database.
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
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes and seeds the tables.
func Migrations() fs.FS { return database.Folder(files) }

// ErrNotFound: there is no such order.
var ErrNotFound = errors.New("no such order")

// querier is a transaction or the read pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Products returns all products by SKU.
func Products(ctx context.Context, db *database.DB) ([]rules.Product, error) {
	return products(ctx, db, `SELECT sku, name, price, currency FROM products ORDER BY sku`)
}

// Catalogue returns those products that the items name.
func Catalogue(ctx context.Context, tx *database.Tx, items []rules.Item) (map[string]rules.Product, error) {
	args, places := make([]any, len(items)), make([]string, len(items))
	for i, item := range items {
		args[i], places[i] = item.SKU, fmt.Sprintf("$%d", i+1)
	}
	list, err := products(ctx, tx, `SELECT sku, name, price, currency FROM products WHERE sku IN (`+strings.Join(places, ", ")+`)`, args...)
	if err != nil {
		return nil, err
	}
	catalogue := make(map[string]rules.Product, len(list))
	for _, p := range list {
		catalogue[p.SKU] = p
	}
	return catalogue, nil
}

func products(ctx context.Context, q querier, query string, args ...any) ([]rules.Product, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read products: %w", database.Classify(err))
	}
	defer rows.Close()
	var list []rules.Product
	for rows.Next() {
		var p rules.Product
		if err := rows.Scan(&p.SKU, &p.Name, &p.Price.Amount, &p.Price.Currency); err != nil {
			return nil, fmt.Errorf("read products: %w", err)
		}
		list = append(list, p)
	}
	return list, database.Classify(rows.Err())
}

// line is a line as the column has it.
type line struct {
	SKU      string       `json:"sku"`
	Name     string       `json:"name"`
	Quantity int          `json:"quantity"`
	Price    events.Money `json:"price"`
	Total    events.Money `json:"total"`
}

const columns = `id, customer_id, state, version, currency, total, lines, shipping_address, payment_method,
	failure_code, failure_detail, carrier, tracking_number, created_at, updated_at`

// Insert writes a new order.
func Insert(ctx context.Context, tx *database.Tx, o rules.Order) error {
	lines := make([]line, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = line{l.SKU, l.Name, l.Quantity, l.Price, l.Total}
	}
	linesJSON, err := json.Marshal(lines)
	if err != nil {
		return fmt.Errorf("encode lines of order %s: %w", o.ID, err)
	}
	address, err := json.Marshal(o.ShippingAddress)
	if err != nil {
		return fmt.Errorf("encode address of order %s: %w", o.ID, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO orders (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', '', '', $10, $11)`,
		o.ID, o.CustomerID, string(o.State), o.Version, o.Total.Currency, o.Total.Amount, string(linesJSON),
		string(address), o.PaymentMethod, o.CreatedAt, o.UpdatedAt)
	if err != nil {
		return fmt.Errorf("insert order %s: %w", o.ID, database.Classify(err))
	}
	return nil
}

// Load reads an order and locks its row until the transaction ends.
func Load(ctx context.Context, tx *database.Tx, id string) (rules.Order, error) {
	if o, ok := database.AheadOf[rules.Order](tx).Get(id); ok {
		return o, nil
	}
	return found(scan(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM orders WHERE id = $1`+tx.ForUpdate(), id)))
}

// Get reads an order.
func Get(ctx context.Context, db *database.DB, id string) (rules.Order, error) {
	return found(scan(db.QueryRowContext(ctx, `SELECT `+columns+` FROM orders WHERE id = $1`, id)))
}

// Update writes what can change of an order that was loaded in tx.
func Update(ctx context.Context, tx *database.Tx, o rules.Order) error {
	if rows := database.AheadOf[rules.Order](tx); rows.Has(o.ID) {
		rows.Put(o.ID, o)
		return nil
	}
	var failure events.Reason
	if o.Failure != nil {
		failure = *o.Failure
	}
	_, err := tx.ExecContext(ctx, `UPDATE orders SET state = $2, version = $3, failure_code = $4, failure_detail = $5,
		carrier = $6, tracking_number = $7, updated_at = $8 WHERE id = $1`,
		o.ID, string(o.State), o.Version, failure.Code, failure.Detail, o.Carrier, o.TrackingNumber, o.UpdatedAt)
	if err != nil {
		return fmt.Errorf("update order %s: %w", o.ID, database.Classify(err))
	}
	return nil
}

// Filter selects orders; empty fields select all.
type Filter struct {
	CustomerID string
	State      rules.State
	// Before continues a list behind the order with this id.
	Before string
	Limit  int
}

// List returns orders, the newest first.
func List(ctx context.Context, db *database.DB, f Filter) ([]rules.Order, error) {
	// Conditions are put together so that each combination has an index to use.
	query, args := `SELECT `+columns+` FROM orders WHERE TRUE`, []any{}
	where := func(condition, value string) {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	where("customer_id = $%d", f.CustomerID)
	where("state = $%d", string(f.State))
	where("id < $%d", f.Before)
	args = append(args, f.Limit)
	query += fmt.Sprintf(" ORDER BY id DESC LIMIT $%d", len(args))

	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", database.Classify(err))
	}
	defer rows.Close()
	var orders []rules.Order
	for rows.Next() {
		o, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list orders: %w", err)
		}
		orders = append(orders, o)
	}
	return orders, database.Classify(rows.Err())
}

func found(o rules.Order, err error) (rules.Order, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return rules.Order{}, fault.AsPermanent(ErrNotFound)
	}
	if err != nil {
		return rules.Order{}, fmt.Errorf("read order: %w", database.Classify(err))
	}
	return o, nil
}

func scan(row interface{ Scan(...any) error }) (rules.Order, error) {
	var o rules.Order
	var linesJSON, address string
	var failure events.Reason
	err := row.Scan(&o.ID, &o.CustomerID, &o.State, &o.Version, &o.Total.Currency, &o.Total.Amount, &linesJSON,
		&address, &o.PaymentMethod, &failure.Code, &failure.Detail, &o.Carrier, &o.TrackingNumber, &o.CreatedAt, &o.UpdatedAt)
	if err != nil {
		return o, err
	}
	o.CreatedAt, o.UpdatedAt = o.CreatedAt.UTC(), o.UpdatedAt.UTC()
	if failure.Code != "" {
		o.Failure = &failure
	}
	var lines []line
	if err := json.Unmarshal([]byte(linesJSON), &lines); err != nil {
		return o, fmt.Errorf("lines of order %s: %w", o.ID, err)
	}
	for _, l := range lines {
		o.Lines = append(o.Lines, rules.Line{
			Product: rules.Product{SKU: l.SKU, Name: l.Name, Price: l.Price}, Quantity: l.Quantity, Total: l.Total,
		})
	}
	if err := json.Unmarshal([]byte(address), &o.ShippingAddress); err != nil {
		return o, fmt.Errorf("address of order %s: %w", o.ID, err)
	}
	return o, nil
}
