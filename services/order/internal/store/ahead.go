package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

// ReadAhead reads and locks the orders with these ids, those that there are, in one statement. Load and Update then need
// none in tx: what was changed is written in one statement before the commit.
func ReadAhead(ctx context.Context, tx *database.Tx, ids []string) error {
	rows := make(map[string]rules.Order, len(ids))
	for chunk := range slices.Chunk(ids, database.MaxRows) {
		if err := readAhead(ctx, tx, chunk, rows); err != nil {
			return fmt.Errorf("read %d orders: %w", len(chunk), database.Classify(err))
		}
	}
	database.ReadAhead(tx, rows, func(ctx context.Context, changed []rules.Order) error {
		for chunk := range slices.Chunk(changed, database.MaxRows) {
			if err := updateAll(ctx, tx, chunk); err != nil {
				return fmt.Errorf("update %d orders: %w", len(chunk), database.Classify(err))
			}
		}
		return nil
	})
	return nil
}

func readAhead(ctx context.Context, tx *database.Tx, ids []string, into map[string]rules.Order) (err error) {
	in, args := tx.Dialect().In(ids)
	// In one order, so that transactions that read the same ones ahead wait for each other and never in a circle.
	rows, err := tx.QueryContext(ctx, `SELECT `+columns+` FROM orders WHERE id `+in+` ORDER BY id`+tx.ForUpdate(), args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		o, err := scan(rows)
		if err != nil {
			return err
		}
		into[o.ID] = o
	}
	return rows.Err()
}

func updateAll(ctx context.Context, tx *database.Tx, orders []rules.Order) error {
	texts := func(of func(rules.Order) string) database.Column {
		values := make([]string, len(orders))
		for i, o := range orders {
			values[i] = of(o)
		}
		return database.Texts(values)
	}
	failure := func(o rules.Order) events.Reason {
		if o.Failure == nil {
			return events.Reason{}
		}
		return *o.Failure
	}
	versions, updated := make([]int64, len(orders)), make([]time.Time, len(orders))
	for i, o := range orders {
		versions[i], updated[i] = o.Version, o.UpdatedAt
	}
	values, args := tx.Dialect().Columns(
		texts(func(o rules.Order) string { return o.ID }), texts(func(o rules.Order) string { return string(o.State) }), database.Ints(versions),
		texts(func(o rules.Order) string { return failure(o).Code }), texts(func(o rules.Order) string { return failure(o).Detail }),
		texts(func(o rules.Order) string { return o.Carrier }), texts(func(o rules.Order) string { return o.TrackingNumber }), database.Times(updated),
	)
	_, err := tx.ExecContext(ctx, `WITH v (id, state, version, failure_code, failure_detail, carrier, tracking_number, updated_at) AS (`+values+`)
		UPDATE orders SET state = v.state, version = v.version, failure_code = v.failure_code, failure_detail = v.failure_detail,
			carrier = v.carrier, tracking_number = v.tracking_number, updated_at = v.updated_at
		FROM v WHERE orders.id = v.id`, args...)
	return err
}
