// Package store keeps payments in the payment service's database.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

var payments = &database.Table[*rules.Payment]{
	Name: "payments",
	Fields: []database.Field[*rules.Payment]{
		database.Text("order_id", func(p *rules.Payment) string { return p.OrderID }),
		database.Text("customer_id", func(p *rules.Payment) string { return p.CustomerID }).Fixed(),
		database.Text("payment_id", func(p *rules.Payment) string { return p.ID }).Fixed(),
		database.Text("state", func(p *rules.Payment) string { return string(p.State) }),
		database.Int("amount", func(p *rules.Payment) int64 { return p.Amount.Amount }),
		database.Text("currency", func(p *rules.Payment) string { return p.Amount.Currency }),
		database.Int("refunded", func(p *rules.Payment) int64 { return p.Refunded }),
		database.Text("reference", func(p *rules.Payment) string { return p.Reference }).Fixed(),
		database.Text("refund_reference", func(p *rules.Payment) string { return p.RefundReference }),
		database.Text("failure_code", func(p *rules.Payment) string { return p.Failure.Code }).Fixed(),
		database.Text("failure_detail", func(p *rules.Payment) string { return p.Failure.Detail }).Fixed(),
		database.Time("created_at", func(p *rules.Payment) time.Time { return p.CreatedAt }).Fixed(),
		database.Time("updated_at", func(p *rules.Payment) time.Time { return p.UpdatedAt }),
	},
	Scan: func(row database.Scanner) (*rules.Payment, error) {
		var p rules.Payment
		err := row.Scan(&p.OrderID, &p.CustomerID, &p.ID, &p.State, &p.Amount.Amount, &p.Amount.Currency, &p.Refunded,
			&p.Reference, &p.RefundReference, &p.Failure.Code, &p.Failure.Detail, &p.CreatedAt, &p.UpdatedAt)
		if err != nil {
			return nil, err
		}
		p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
		return &p, nil
	},
}

// Reader reads the payments of orders by id, as last committed; nil means that there is none. Calls that come at the
// same time share a statement.
type Reader = coalesce.Group[string, *rules.Payment]

// NewReader returns a reader of db.
func NewReader(db *database.DB) *Reader {
	return coalesce.Lookup(func(ctx context.Context, orderIDs []string) (map[string]*rules.Payment, error) {
		return payments.GetAll(ctx, db, orderIDs)
	})
}

// ReadAhead reads and locks the orders' payments, those that there are, in one statement: Load then needs none.
func ReadAhead(ctx context.Context, tx *database.Tx, orderIDs []string) error {
	return payments.Ahead(ctx, tx, orderIDs...)
}

// Load reads and locks an order's payment; nil means that there is none. What it points to must not be changed.
func Load(ctx context.Context, tx *database.Tx, orderID string) (*rules.Payment, error) {
	p, _, err := payments.Load(ctx, tx, orderID)
	return p, err
}

// Put writes, before the commit, an order's first payment, or what became of one that Load returned. A row that is not
// there cannot be locked, so another transaction may have been faster: that is an error, and the next attempt finds
// its row.
func Put(tx *database.Tx, p rules.Payment) { payments.Put(tx, &p) }

// Totals sums up all payments by currency.
func Totals(ctx context.Context, db *database.DB) ([]rules.Totals, error) {
	rows, err := db.QueryContext(ctx, `SELECT currency,
			CAST(SUM(CASE WHEN state IN ('charged', 'refunded') THEN amount ELSE 0 END) AS BIGINT),
			CAST(SUM(refunded) AS BIGINT),
			SUM(CASE WHEN state IN ('charged', 'refunded') THEN 1 ELSE 0 END),
			SUM(CASE WHEN state = 'refunded' THEN 1 ELSE 0 END),
			SUM(CASE WHEN state = 'declined' THEN 1 ELSE 0 END)
		FROM payments WHERE state <> 'voided' GROUP BY currency ORDER BY currency`)
	if err != nil {
		return nil, fmt.Errorf("read totals: %w", database.Classify(err))
	}
	defer rows.Close()
	var list []rules.Totals
	for rows.Next() {
		var t rules.Totals
		if err := rows.Scan(&t.Currency, &t.Charged, &t.Refunded, &t.Charges, &t.Refunds, &t.Declines); err != nil {
			return nil, fmt.Errorf("read totals: %w", err)
		}
		list = append(list, t)
	}
	return list, database.Classify(rows.Err())
}
