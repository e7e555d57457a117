// Package store keeps payments in the payment service's database.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

const columns = `order_id, customer_id, payment_id, state, amount, currency, refunded, reference, refund_reference,
	failure_code, failure_detail, created_at, updated_at`

// Get reads an order's payment; nil means that there is none.
func Get(ctx context.Context, db *database.DB, orderID string) (*rules.Payment, error) {
	return payment(db.QueryRowContext(ctx, `SELECT `+columns+` FROM payments WHERE order_id = $1`, orderID))
}

// Load reads and locks an order's payment; nil means that there is none.
func Load(ctx context.Context, tx *database.Tx, orderID string) (*rules.Payment, error) {
	return payment(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM payments WHERE order_id = $1`+tx.ForUpdate(), orderID))
}

func payment(row database.Scanner) (*rules.Payment, error) {
	var p rules.Payment
	err := row.Scan(&p.OrderID, &p.CustomerID, &p.ID, &p.State, &p.Amount.Amount, &p.Amount.Currency, &p.Refunded,
		&p.Reference, &p.RefundReference, &p.Failure.Code, &p.Failure.Detail, &p.CreatedAt, &p.UpdatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read payment: %w", database.Classify(err))
	}
	p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	return &p, nil
}

// Insert writes an order's first payment. A row that is not there cannot be locked, so another transaction may have
// been faster: that is an error, and the next attempt finds its row.
func Insert(ctx context.Context, tx *database.Tx, p rules.Payment) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO payments (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		p.OrderID, p.CustomerID, p.ID, string(p.State), p.Amount.Amount, p.Amount.Currency, p.Refunded,
		p.Reference, p.RefundReference, p.Failure.Code, p.Failure.Detail, p.CreatedAt.UTC(), p.UpdatedAt.UTC())
	if err != nil {
		return fmt.Errorf("insert payment of order %s: %w", p.OrderID, database.Classify(err))
	}
	return nil
}

// Update writes what became of a payment that Load has locked.
func Update(ctx context.Context, tx *database.Tx, p rules.Payment) error {
	_, err := tx.ExecContext(ctx, `UPDATE payments SET state = $2, amount = $3, currency = $4, refunded = $5,
		refund_reference = $6, updated_at = $7 WHERE order_id = $1`,
		p.OrderID, string(p.State), p.Amount.Amount, p.Amount.Currency, p.Refunded, p.RefundReference, p.UpdatedAt.UTC())
	if err != nil {
		return fmt.Errorf("update payment of order %s: %w", p.OrderID, database.Classify(err))
	}
	return nil
}

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
