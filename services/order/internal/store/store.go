// Package store keeps products and orders in the order service's database.
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
	"github.com/orderflow/orderflow/pkg/coalesce"
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

var products = &database.Table[rules.Product]{
	Name: "products",
	Fields: []database.Field[rules.Product]{
		database.Text("sku", func(p rules.Product) string { return p.SKU }),
		database.Text("name", func(p rules.Product) string { return p.Name }),
		database.Int("price", func(p rules.Product) int64 { return p.Price.Amount }),
		database.Text("currency", func(p rules.Product) string { return p.Price.Currency }),
	},
	Scan: func(row database.Scanner) (p rules.Product, err error) {
		return p, row.Scan(&p.SKU, &p.Name, &p.Price.Amount, &p.Price.Currency)
	},
}

// Products returns all products by SKU.
func Products(ctx context.Context, db *database.DB) ([]rules.Product, error) {
	return products.List(ctx, db, `SELECT `+products.Columns()+` FROM products ORDER BY sku`)
}

// Catalogue looks products up, those of orders that come at the same time in one statement.
type Catalogue struct {
	lookups *coalesce.Group[[]rules.Item, map[string]rules.Product]
}

// NewCatalogue returns the catalogue in db.
func NewCatalogue(db *database.DB) *Catalogue {
	return &Catalogue{coalesce.New(256, 0, func(ctx context.Context, calls []*coalesce.Call[[]rules.Item, map[string]rules.Product]) error {
		var skus []string
		for _, c := range calls {
			for _, item := range c.In {
				skus = append(skus, item.SKU)
			}
		}
		found, err := products.GetAll(ctx, db, skus)
		for _, c := range calls {
			c.Out = found
		}
		return err
	})}
}

// Of returns those products that the items name, and maybe others. The map is not the caller's to change.
func (c *Catalogue) Of(ctx context.Context, items []rules.Item) (map[string]rules.Product, error) {
	return c.lookups.Do(ctx, items)
}

// line is a line as the column has it.
type line struct {
	SKU      string       `json:"sku"`
	Name     string       `json:"name"`
	Quantity int          `json:"quantity"`
	Price    events.Money `json:"price"`
	Total    events.Money `json:"total"`
}

func failure(o rules.Order) events.Reason {
	if o.Failure == nil {
		return events.Reason{}
	}
	return *o.Failure
}

// stored is an order with what the table has as JSON.
type stored struct {
	rules.Order
	lines, address string
}

var orders = &database.Table[stored]{
	Name: "orders", Scan: scan,
	Fields: []database.Field[stored]{
		database.Text("id", func(o stored) string { return o.ID }),
		database.Text("customer_id", func(o stored) string { return o.CustomerID }).Fixed(),
		database.Text("state", func(o stored) string { return string(o.State) }),
		database.Int("version", func(o stored) int64 { return o.Version }),
		database.Text("currency", func(o stored) string { return o.Total.Currency }).Fixed(),
		database.Int("total", func(o stored) int64 { return o.Total.Amount }).Fixed(),
		database.Text("lines", func(o stored) string { return o.lines }).Fixed(),
		database.Text("shipping_address", func(o stored) string { return o.address }).Fixed(),
		database.Text("payment_method", func(o stored) string { return o.PaymentMethod }).Fixed(),
		database.Text("failure_code", func(o stored) string { return failure(o.Order).Code }),
		database.Text("failure_detail", func(o stored) string { return failure(o.Order).Detail }),
		database.Text("carrier", func(o stored) string { return o.Carrier }),
		database.Text("tracking_number", func(o stored) string { return o.TrackingNumber }),
		database.Time("created_at", func(o stored) time.Time { return o.CreatedAt }).Fixed(),
		database.Time("updated_at", func(o stored) time.Time { return o.UpdatedAt }),
	},
}

// Insert writes a new order before the commit.
func Insert(tx *database.Tx, o rules.Order) error {
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
	orders.Put(tx, stored{o, string(linesJSON), string(address)})
	return nil
}

// ReadAhead reads and locks the orders with these ids, those that there are, in one statement: Load then needs none.
func ReadAhead(ctx context.Context, tx *database.Tx, ids []string) error {
	return orders.Ahead(ctx, tx, ids...)
}

// Load reads an order and locks its row until the transaction ends.
func Load(ctx context.Context, tx *database.Tx, id string) (rules.Order, error) {
	return found(orders.Load(ctx, tx, id))
}

// Get reads an order.
func Get(ctx context.Context, db *database.DB, id string) (rules.Order, error) {
	return found(orders.Get(ctx, db, id))
}

// Update writes what can change of an order that was loaded in tx, before the commit.
func Update(tx *database.Tx, o rules.Order) { orders.Put(tx, stored{Order: o}) }

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
	query, args := `SELECT `+orders.Columns()+` FROM orders WHERE TRUE`, []any{}
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

	rows, err := orders.List(ctx, db, query, args...)
	list := make([]rules.Order, len(rows))
	for i, row := range rows {
		list[i] = row.Order
	}
	return list, err
}

func found(o stored, there bool, err error) (rules.Order, error) {
	if err == nil && !there {
		err = fault.AsPermanent(ErrNotFound)
	}
	return o.Order, err
}

func scan(row database.Scanner) (stored, error) {
	var o stored
	var failure events.Reason
	err := row.Scan(&o.ID, &o.CustomerID, &o.State, &o.Version, &o.Total.Currency, &o.Total.Amount, &o.lines,
		&o.address, &o.PaymentMethod, &failure.Code, &failure.Detail, &o.Carrier, &o.TrackingNumber, &o.CreatedAt, &o.UpdatedAt)
	if err != nil {
		return o, err
	}
	o.CreatedAt, o.UpdatedAt = o.CreatedAt.UTC(), o.UpdatedAt.UTC()
	if failure.Code != "" {
		o.Failure = &failure
	}
	var lines []line
	if err := json.Unmarshal([]byte(o.lines), &lines); err != nil {
		return o, fmt.Errorf("lines of order %s: %w", o.ID, err)
	}
	for _, l := range lines {
		o.Lines = append(o.Lines, rules.Line{
			Product: rules.Product{SKU: l.SKU, Name: l.Name, Price: l.Price}, Quantity: l.Quantity, Total: l.Total,
		})
	}
	if err := json.Unmarshal([]byte(o.address), &o.ShippingAddress); err != nil {
		return o, fmt.Errorf("address of order %s: %w", o.ID, err)
	}
	return o, nil
}
