// Package store keeps shipments in the shipping service's database.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

var shipments = &database.Table[*rules.Shipment]{
	Name: "shipments",
	Fields: []database.Field[*rules.Shipment]{
		database.Text("order_id", func(s *rules.Shipment) string { return s.OrderID }),
		database.Text("customer_id", func(s *rules.Shipment) string { return s.CustomerID }).Fixed(),
		database.Text("shipment_id", func(s *rules.Shipment) string { return s.ID }).Fixed(),
		database.Text("state", func(s *rules.Shipment) string { return string(s.State) }),
		database.Text("carrier", func(s *rules.Shipment) string { return s.Carrier }),
		database.Text("tracking_number", func(s *rules.Shipment) string { return s.TrackingNumber }),
		database.Text("failure_code", func(s *rules.Shipment) string { return s.Failure.Code }).Fixed(),
		database.Text("failure_detail", func(s *rules.Shipment) string { return s.Failure.Detail }).Fixed(),
		database.Time("created_at", func(s *rules.Shipment) time.Time { return s.CreatedAt }).Fixed(),
		database.Time("updated_at", func(s *rules.Shipment) time.Time { return s.UpdatedAt }),
	},
	Scan: func(row database.Scanner) (*rules.Shipment, error) {
		var s rules.Shipment
		err := row.Scan(&s.OrderID, &s.CustomerID, &s.ID, &s.State, &s.Carrier, &s.TrackingNumber,
			&s.Failure.Code, &s.Failure.Detail, &s.CreatedAt, &s.UpdatedAt)
		if err != nil {
			return nil, err
		}
		s.CreatedAt, s.UpdatedAt = s.CreatedAt.UTC(), s.UpdatedAt.UTC()
		return &s, nil
	},
}

// Reader reads the shipments of orders by id, as last committed; nil means that there is none. Calls that come at the
// same time share a statement.
type Reader = coalesce.Group[string, *rules.Shipment]

// NewReader returns a reader of db.
func NewReader(db *database.DB) *Reader {
	return coalesce.Lookup(func(ctx context.Context, orderIDs []string) (map[string]*rules.Shipment, error) {
		return shipments.GetAll(ctx, db, orderIDs)
	})
}

// ReadAhead reads and locks the orders' shipments, those that there are, in one statement: Load then needs none.
func ReadAhead(ctx context.Context, tx *database.Tx, orderIDs []string) error {
	return shipments.Ahead(ctx, tx, orderIDs...)
}

// Load reads and locks an order's shipment; nil means that there is none. What it points to must not be changed.
func Load(ctx context.Context, tx *database.Tx, orderID string) (*rules.Shipment, error) {
	s, _, err := shipments.Load(ctx, tx, orderID)
	return s, err
}

// Put writes, before the commit, an order's first shipment, or what became of one that Load returned. A row that is not
// there cannot be locked, so another transaction may have been faster: that is an error, and the next attempt finds
// its row.
func Put(tx *database.Tx, s rules.Shipment) { shipments.Put(tx, &s) }

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
