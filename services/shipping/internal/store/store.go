// Package store keeps shipments in the shipping service's database.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

const columns = `order_id, customer_id, shipment_id, state, carrier, tracking_number, failure_code, failure_detail,
	created_at, updated_at`

// Get reads an order's shipment; nil means that there is none.
func Get(ctx context.Context, db *database.DB, orderID string) (*rules.Shipment, error) {
	return shipment(db.QueryRowContext(ctx, `SELECT `+columns+` FROM shipments WHERE order_id = $1`, orderID))
}

// Load reads and locks an order's shipment; nil means that there is none.
func Load(ctx context.Context, tx *database.Tx, orderID string) (*rules.Shipment, error) {
	return shipment(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM shipments WHERE order_id = $1`+tx.ForUpdate(), orderID))
}

func shipment(row database.Scanner) (*rules.Shipment, error) {
	var s rules.Shipment
	err := row.Scan(&s.OrderID, &s.CustomerID, &s.ID, &s.State, &s.Carrier, &s.TrackingNumber,
		&s.Failure.Code, &s.Failure.Detail, &s.CreatedAt, &s.UpdatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read shipment: %w", database.Classify(err))
	}
	s.CreatedAt, s.UpdatedAt = s.CreatedAt.UTC(), s.UpdatedAt.UTC()
	return &s, nil
}

// Insert writes an order's first shipment. A row that is not there cannot be locked, so another transaction may have
// been faster: that is an error, and the next attempt finds its row.
func Insert(ctx context.Context, tx *database.Tx, s rules.Shipment) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO shipments (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		s.OrderID, s.CustomerID, s.ID, string(s.State), s.Carrier, s.TrackingNumber, s.Failure.Code, s.Failure.Detail,
		s.CreatedAt.UTC(), s.UpdatedAt.UTC())
	if err != nil {
		return fmt.Errorf("insert shipment of order %s: %w", s.OrderID, database.Classify(err))
	}
	return nil
}

// Update writes what became of a shipment that Load has locked.
func Update(ctx context.Context, tx *database.Tx, s rules.Shipment) error {
	_, err := tx.ExecContext(ctx, `UPDATE shipments SET state = $2, carrier = $3, tracking_number = $4, updated_at = $5
		WHERE order_id = $1`, s.OrderID, string(s.State), s.Carrier, s.TrackingNumber, s.UpdatedAt.UTC())
	if err != nil {
		return fmt.Errorf("update shipment of order %s: %w", s.OrderID, database.Classify(err))
	}
	return nil
}

// Totals counts all shipments by state.
func Totals(ctx context.Context, db *database.DB) (rules.Totals, error) {
	var t rules.Totals
	err := db.QueryRowContext(ctx, `SELECT
			COALESCE(SUM(CASE WHEN state = 'arranged' THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN state = 'refused' THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN state = 'cancelled' THEN 1 ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN state = 'voided' THEN 1 ELSE 0 END), 0)
		FROM shipments`).Scan(&t.Arranged, &t.Refused, &t.Cancelled, &t.Voided)
	if err != nil {
		return rules.Totals{}, fmt.Errorf("read totals: %w", database.Classify(err))
	}
	return t, nil
}
