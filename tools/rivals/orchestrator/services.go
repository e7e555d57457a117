package orchestrator

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// States of rows, as our services name them.
const (
	stateReserved = "reserved"
	stateRejected = "rejected"
	stateReleased = "released"
	stateCharged  = "charged"
	stateDeclined = "declined"
	stateArranged = "arranged"
)

// schemas are our services' own tables, by service.
var schemas = map[string]string{
	Inventory: `
		CREATE TABLE IF NOT EXISTS stock (
			sku TEXT PRIMARY KEY, received BIGINT NOT NULL, available BIGINT NOT NULL CHECK (available >= 0),
			reserved BIGINT NOT NULL CHECK (reserved >= 0), shipped BIGINT NOT NULL CHECK (shipped >= 0),
			CHECK (received = available + reserved + shipped));
		CREATE TABLE IF NOT EXISTS reservations (
			order_id TEXT PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('reserved', 'rejected', 'released', 'shipped')),
			lines TEXT NOT NULL, shortages TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL);`,
	Payment: `
		CREATE TABLE IF NOT EXISTS payments (
			order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, payment_id TEXT NOT NULL UNIQUE,
			state TEXT NOT NULL CHECK (state IN ('charged', 'declined', 'refunded', 'voided')),
			amount BIGINT NOT NULL CHECK (amount >= 0), currency TEXT NOT NULL,
			refunded BIGINT NOT NULL CHECK (refunded >= 0 AND refunded <= amount), reference TEXT NOT NULL,
			refund_reference TEXT NOT NULL, failure_code TEXT NOT NULL, failure_detail TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL);`,
	Shipping: `
		CREATE TABLE IF NOT EXISTS shipments (
			order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, shipment_id TEXT NOT NULL UNIQUE,
			state TEXT NOT NULL CHECK (state IN ('arranged', 'refused', 'cancelled', 'voided')),
			carrier TEXT NOT NULL, tracking_number TEXT NOT NULL, failure_code TEXT NOT NULL, failure_detail TEXT NOT NULL,
			created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL);
		CREATE UNIQUE INDEX IF NOT EXISTS shipments_tracking_number ON shipments (carrier, tracking_number) WHERE tracking_number <> '';`,
}

// routes are what a service answers.
func routes(role string, db *sql.DB, r chi.Router) {
	s := service{db}
	switch role {
	case Inventory:
		r.Post("/v1/reservations", answer(s.reserve))
		r.Post("/v1/releases", answer(s.release))
	case Payment:
		r.Post("/v1/payments", answer(s.charge))
	case Shipping:
		r.Post("/v1/shipments", answer(s.arrange))
	}
}

type service struct{ db *sql.DB }

// inTx commits what fn did, if it did not fail.
func (s service) inTx(ctx context.Context, fn func(tx *sql.Tx) (string, error)) (outcome, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	state, err := fn(tx)
	if err != nil {
		return outcome{}, err
	}
	return outcome{State: state}, tx.Commit()
}

// state locks and reads an order's row; empty means that there is none.
func state(ctx context.Context, tx *sql.Tx, query, orderID string) (state string, err error) {
	if err = tx.QueryRowContext(ctx, query, orderID).Scan(&state); errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return state, err
}

func (s service) reserve(ctx context.Context, q reserve) (outcome, error) {
	return s.inTx(ctx, func(tx *sql.Tx) (string, error) {
		if was, err := state(ctx, tx, `SELECT state FROM reservations WHERE order_id = $1 FOR UPDATE`, q.OrderID); err != nil || was != "" {
			return was, err
		}
		skus := make([]string, len(q.Lines))
		for i, l := range q.Lines {
			skus[i] = l.SKU
		}
		available, err := lock(ctx, tx, skus)
		if err != nil {
			return "", err
		}
		for _, l := range q.Lines {
			if available[l.SKU] -= int64(l.Quantity); available[l.SKU] < 0 {
				return stateRejected, insertReservation(ctx, tx, q, stateRejected)
			}
		}
		for _, l := range q.Lines {
			if _, err := tx.ExecContext(ctx, `UPDATE stock SET available = available - $2, reserved = reserved + $2 WHERE sku = $1`, l.SKU, l.Quantity); err != nil {
				return "", err
			}
		}
		return stateReserved, insertReservation(ctx, tx, q, stateReserved)
	})
}

// lock reads and locks stock in the order of SKUs, so that nobody waits in a circle.
func lock(ctx context.Context, tx *sql.Tx, skus []string) (map[string]int64, error) {
	rows, err := tx.QueryContext(ctx, `SELECT sku, available FROM stock WHERE sku = ANY($1) ORDER BY sku FOR UPDATE`, skus)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	available := map[string]int64{}
	for rows.Next() {
		var sku string
		var n int64
		if err := rows.Scan(&sku, &n); err != nil {
			return nil, err
		}
		available[sku] = n
	}
	return available, rows.Err()
}

func insertReservation(ctx context.Context, tx *sql.Tx, q reserve, state string) error {
	lines, err := json.Marshal(q.Lines)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO reservations (order_id, state, lines, shortages, created_at, updated_at)
		VALUES ($1, $2, $3, '[]', $4, $4)`, q.OrderID, state, string(lines), time.Now().UTC())
	return err
}

func (s service) release(ctx context.Context, q release) (outcome, error) {
	return s.inTx(ctx, func(tx *sql.Tx) (string, error) {
		var was, text string
		err := tx.QueryRowContext(ctx, `SELECT state, lines FROM reservations WHERE order_id = $1 FOR UPDATE`, q.OrderID).Scan(&was, &text)
		if err != nil || was != stateReserved {
			return was, err
		}
		var held reserve
		if err := json.Unmarshal([]byte(text), &held.Lines); err != nil {
			return "", fmt.Errorf("lines of %s: %w", q.OrderID, err)
		}
		for _, l := range held.Lines {
			if _, err := tx.ExecContext(ctx, `UPDATE stock SET available = available + $2, reserved = reserved - $2 WHERE sku = $1`, l.SKU, l.Quantity); err != nil {
				return "", err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE reservations SET state = 'released', updated_at = $2 WHERE order_id = $1`, q.OrderID, time.Now().UTC())
		return stateReleased, err
	})
}

func (s service) charge(ctx context.Context, q charge) (outcome, error) {
	return s.inTx(ctx, func(tx *sql.Tx) (string, error) {
		was, err := state(ctx, tx, `SELECT state FROM payments WHERE order_id = $1 FOR UPDATE`, q.OrderID)
		if err != nil || was != "" {
			return was, err
		}
		now, reference, failure := stateCharged, "ch_"+q.OrderID, ""
		if q.Method == "tok_declined" {
			now, reference, failure = stateDeclined, "", "card_declined"
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO payments (order_id, customer_id, payment_id, state, amount, currency, refunded, reference,
			refund_reference, failure_code, failure_detail, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, '', $8, '', $9, $9)`,
			q.OrderID, q.CustomerID, uuid.Must(uuid.NewV7()).String(), now, q.Amount, q.Currency, reference, failure, time.Now().UTC())
		return now, err
	})
}

func (s service) arrange(ctx context.Context, q arrange) (outcome, error) {
	return s.inTx(ctx, func(tx *sql.Tx) (string, error) {
		was, err := state(ctx, tx, `SELECT state FROM shipments WHERE order_id = $1 FOR UPDATE`, q.OrderID)
		if err != nil || was != "" {
			return was, err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO shipments (order_id, customer_id, shipment_id, state, carrier, tracking_number, failure_code,
			failure_detail, created_at, updated_at) VALUES ($1, $2, $3, 'arranged', 'carrier', $4, '', '', $5, $5)`,
			q.OrderID, q.CustomerID, uuid.Must(uuid.NewV7()).String(), "TRK-"+q.OrderID, time.Now().UTC())
		return stateArranged, err
	})
}
