package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

// entry is one key in the books.
type entry struct {
	key             string
	method          string
	amount          events.Money
	state           string
	attempts        int
	code            string
	reference       string
	refundReference string
	updatedAt       time.Time
}

// States of an entry.
const (
	undecided = "open"
	charged   = "charged"
	declined  = "declined"
	refunded  = "refunded"
	calledOff = "called_off"
)

var charges = &database.Table[entry]{
	Name: "sandbox_charges",
	Fields: []database.Field[entry]{
		database.Text("key", func(e entry) string { return e.key }),
		database.Text("method", func(e entry) string { return e.method }),
		database.Int("amount", func(e entry) int64 { return e.amount.Amount }),
		database.Text("currency", func(e entry) string { return e.amount.Currency }),
		database.Text("state", func(e entry) string { return e.state }),
		database.Int("attempts", func(e entry) int64 { return int64(e.attempts) }),
		database.Text("code", func(e entry) string { return e.code }),
		database.Text("reference", func(e entry) string { return e.reference }),
		database.Text("refund_reference", func(e entry) string { return e.refundReference }),
		database.Time("updated_at", func(e entry) time.Time { return e.updatedAt }),
	},
	Scan: func(row database.Scanner) (e entry, err error) {
		err = row.Scan(&e.key, &e.method, &e.amount.Amount, &e.amount.Currency, &e.state, &e.attempts, &e.code,
			&e.reference, &e.refundReference, &e.updatedAt)
		return e, err
	},
}

// change commits what fn makes of a key's entry, which is undecided at first. Calls that come at the same time share a
// commit.
func (s *Sandbox) change(ctx context.Context, key string, fn func(*entry) error) (entry, error) {
	return s.books.Do(ctx, key, func(row entry) (entry, error) {
		e := row
		if e.key == "" {
			e.key, e.state = key, undecided
		}
		err := fn(&e)
		if e != row {
			e.updatedAt = s.now().UTC()
		}
		return e, err
	})
}

func totals(ctx context.Context, db *database.DB) ([]rules.Totals, error) {
	rows, err := db.QueryContext(ctx, `SELECT currency,
			CAST(SUM(CASE WHEN state IN ('charged', 'refunded') THEN amount ELSE 0 END) AS BIGINT),
			CAST(SUM(CASE WHEN state = 'refunded' THEN amount ELSE 0 END) AS BIGINT),
			SUM(CASE WHEN state IN ('charged', 'refunded') THEN 1 ELSE 0 END),
			SUM(CASE WHEN state = 'refunded' THEN 1 ELSE 0 END),
			SUM(CASE WHEN state = 'declined' THEN 1 ELSE 0 END)
		FROM sandbox_charges WHERE state IN ('charged', 'refunded', 'declined') GROUP BY currency ORDER BY currency`)
	if err != nil {
		return nil, fmt.Errorf("sandbox totals: %w", database.Classify(err))
	}
	defer rows.Close()
	var list []rules.Totals
	for rows.Next() {
		var t rules.Totals
		if err := rows.Scan(&t.Currency, &t.Charged, &t.Refunded, &t.Charges, &t.Refunds, &t.Declines); err != nil {
			return nil, fmt.Errorf("sandbox totals: %w", err)
		}
		list = append(list, t)
	}
	return list, database.Classify(rows.Err())
}
