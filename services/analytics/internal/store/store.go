// Package store keeps the figures in the analytics service's database. They are kept as sums, so that reading them
// costs the same however many orders there were.
//
// A transaction locks the orders that it is about first. What it adds to the sums, which all orders share, it adds up in
// memory and writes last, table after table and key after key in one order: so two of them never wait in a circle, and
// they wait for each other as short as can be.
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

var orders = &database.Table[rules.Order]{
	Name: "orders",
	Fields: []database.Field[rules.Order]{
		database.Text("id", func(o rules.Order) string { return o.ID }),
		database.Text("customer_id", func(o rules.Order) string { return o.CustomerID }),
		database.Text("state", func(o rules.Order) string { return string(o.State) }),
		database.Int("version", func(o rules.Order) int64 { return o.Version }),
		database.Int("seen", func(o rules.Order) int64 { return int64(o.Seen) }),
		database.Int("total", func(o rules.Order) int64 { return o.Total.Amount }),
		database.Text("currency", func(o rules.Order) string { return o.Total.Currency }),
	},
	Scan: func(row database.Scanner) (o rules.Order, err error) {
		return o, row.Scan(&o.ID, &o.CustomerID, &o.State, &o.Version, &o.Seen, &o.Total.Amount, &o.Total.Currency)
	},
}

// Ahead reads what is remembered of orders and locks it, in two statements; Load then needs none. Events of one order come
// on several topics, so replicas can meet at an order that none has heard of. Its row is inserted first, because what
// is not there cannot be locked: the second replica waits, rather than counting in vain and doing its whole batch again.
func Ahead(ctx context.Context, tx *database.Tx, ids []string) error {
	blank := make([]rules.Order, len(ids))
	for i, id := range ids {
		blank[i].ID = id
	}
	return orders.Ensure(ctx, tx, blank...)
}

// Load reads what is remembered of an order and locks it.
func Load(ctx context.Context, tx *database.Tx, id string) (rules.Order, error) {
	if err := Ahead(ctx, tx, []string{id}); err != nil {
		return rules.Order{}, err
	}
	o, _, err := orders.Load(ctx, tx, id)
	return o, err
}

// Save writes an order, and adds a change to the figures, before the commit.
func Save(tx *database.Tx, o rules.Order, c rules.Change) {
	orders.Put(tx, o)
	one := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	created, confirmed, cancelled := one(c.Counted == rules.Created), one(c.Counted == rules.Confirmed), one(c.Counted == rules.Cancelled)
	f := figuresOf(tx)
	f.customers.add(customer{o.CustomerID, o.Total.Currency}, one(c.NewOrder), confirmed, cancelled, c.Revenue.Amount)
	f.minutes.add(c.Minute, created, confirmed, cancelled)
	if c.Counted == rules.Confirmed {
		f.revenue.add(c.Revenue.Currency, c.Revenue.Amount, 1)
	}
	if c.Left != "" {
		f.states.add(string(c.Left), -1)
	}
	if c.Entered != "" {
		f.states.add(string(c.Entered), +1)
	}
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
