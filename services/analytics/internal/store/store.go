// Package store keeps the figures in the analytics service's database. They are kept as sums, so that reading them
// costs the same however many orders there were.
package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/analytics/internal/rules"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() fs.FS { return database.Folder(files) }

// Load reads what is remembered of an order and locks it. A new order gets its row first: its events come on several
// topics, and two of them at once would both find nothing to lock.
func Load(ctx context.Context, tx *database.Tx, id string) (rules.Order, error) {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer_id, state, version, seen, total, currency)
		VALUES ($1, '', '', 0, 0, 0, '') ON CONFLICT (id) DO NOTHING`, id)
	if err != nil {
		return rules.Order{}, fmt.Errorf("read order %s: %w", id, database.Classify(err))
	}
	var o rules.Order
	err = tx.QueryRowContext(ctx, `SELECT id, customer_id, state, version, seen, total, currency
		FROM orders WHERE id = $1`+tx.ForUpdate(), id).
		Scan(&o.ID, &o.CustomerID, &o.State, &o.Version, &o.Seen, &o.Total.Amount, &o.Total.Currency)
	if err != nil {
		return o, fmt.Errorf("read order %s: %w", id, database.Classify(err))
	}
	return o, nil
}

// Save writes an order and adds a change to the figures.
func Save(ctx context.Context, tx *database.Tx, o rules.Order, c rules.Change) error {
	one := func(kind rules.Kind) int64 {
		if c.Counted == kind {
			return 1
		}
		return 0
	}
	newOrder := int64(0)
	if c.NewOrder {
		newOrder = 1
	}
	type statement struct {
		query string
		args  []any
	}
	// Rows that many orders share come last and in one order, so that two transactions never wait in a circle and
	// hold them for as short as can be.
	statements := []statement{
		{`UPDATE orders SET customer_id = $2, state = $3, version = $4, seen = $5, total = $6, currency = $7 WHERE id = $1`,
			[]any{o.ID, o.CustomerID, string(o.State), o.Version, int64(o.Seen), o.Total.Amount, o.Total.Currency}},
		{`INSERT INTO customers (customer_id, currency, orders, confirmed, cancelled, spent) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (customer_id, currency) DO UPDATE SET orders = customers.orders + excluded.orders,
			confirmed = customers.confirmed + excluded.confirmed, cancelled = customers.cancelled + excluded.cancelled,
			spent = customers.spent + excluded.spent`,
			[]any{o.CustomerID, o.Total.Currency, newOrder, one(rules.Confirmed), one(rules.Cancelled), c.Revenue.Amount}},
		{`INSERT INTO minutes (minute, created, confirmed, cancelled) VALUES ($1, $2, $3, $4)
			ON CONFLICT (minute) DO UPDATE SET created = minutes.created + excluded.created,
			confirmed = minutes.confirmed + excluded.confirmed, cancelled = minutes.cancelled + excluded.cancelled`,
			[]any{c.Minute, one(rules.Created), one(rules.Confirmed), one(rules.Cancelled)}},
	}
	if c.Counted == rules.Confirmed {
		statements = append(statements, statement{`INSERT INTO revenue (currency, amount, orders) VALUES ($1, $2, 1)
			ON CONFLICT (currency) DO UPDATE SET amount = revenue.amount + excluded.amount, orders = revenue.orders + 1`,
			[]any{c.Revenue.Currency, c.Revenue.Amount}})
	}
	moves := map[rules.State]int64{c.Left: -1, c.Entered: +1}
	for _, state := range []rules.State{rules.StateCancelled, rules.StateConfirmed, rules.Pending} {
		if moves[state] != 0 {
			statements = append(statements, statement{`INSERT INTO orders_by_state (state, orders) VALUES ($1, $2)
				ON CONFLICT (state) DO UPDATE SET orders = orders_by_state.orders + excluded.orders`,
				[]any{string(state), moves[state]}})
		}
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return fmt.Errorf("save figures of order %s: %w", o.ID, database.Classify(err))
		}
	}
	return nil
}

// Revenue is what confirmed orders brought in one currency.
type Revenue struct {
	Currency string
	Amount   int64
	Orders   int64
}

// Figures returns the orders by state and the revenue by currency.
func Figures(ctx context.Context, db *database.DB) (map[rules.State]int64, []Revenue, error) {
	states := map[rules.State]int64{rules.Pending: 0, rules.StateConfirmed: 0, rules.StateCancelled: 0}
	err := each(ctx, db, func(rows *sql.Rows) error {
		var state rules.State
		var n int64
		if err := rows.Scan(&state, &n); err != nil {
			return err
		}
		states[state] = n
		return nil
	}, `SELECT state, orders FROM orders_by_state`)
	if err != nil {
		return nil, nil, err
	}
	var revenue []Revenue
	err = each(ctx, db, func(rows *sql.Rows) error {
		var r Revenue
		if err := rows.Scan(&r.Currency, &r.Amount, &r.Orders); err != nil {
			return err
		}
		revenue = append(revenue, r)
		return nil
	}, `SELECT currency, amount, orders FROM revenue ORDER BY currency`)
	return states, revenue, err
}

// Minute is one tumbling window.
type Minute struct {
	Start                         time.Time
	Created, Confirmed, Cancelled int64
}

// Minutes returns the windows that begin in [from, to) and are not empty, oldest first.
func Minutes(ctx context.Context, db *database.DB, from, to time.Time) ([]Minute, error) {
	var minutes []Minute
	err := each(ctx, db, func(rows *sql.Rows) error {
		var m Minute
		if err := rows.Scan(&m.Start, &m.Created, &m.Confirmed, &m.Cancelled); err != nil {
			return err
		}
		m.Start = m.Start.UTC()
		minutes = append(minutes, m)
		return nil
	}, `SELECT minute, created, confirmed, cancelled FROM minutes WHERE minute >= $1 AND minute < $2 ORDER BY minute`,
		from.UTC(), to.UTC())
	return minutes, err
}

// CustomerTotals is what one customer ordered in one currency.
type CustomerTotals struct {
	Currency                            string
	Orders, Confirmed, Cancelled, Spent int64
}

// Customer returns a customer's totals by currency; none for one who never ordered.
func Customer(ctx context.Context, db *database.DB, id string) ([]CustomerTotals, error) {
	var totals []CustomerTotals
	err := each(ctx, db, func(rows *sql.Rows) error {
		var t CustomerTotals
		if err := rows.Scan(&t.Currency, &t.Orders, &t.Confirmed, &t.Cancelled, &t.Spent); err != nil {
			return err
		}
		totals = append(totals, t)
		return nil
	}, `SELECT currency, orders, confirmed, cancelled, spent FROM customers WHERE customer_id = $1 ORDER BY currency`, id)
	return totals, err
}

func each(ctx context.Context, db *database.DB, row func(*sql.Rows) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read figures: %w", database.Classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return fmt.Errorf("read figures: %w", err)
		}
	}
	return database.Classify(rows.Err())
}
