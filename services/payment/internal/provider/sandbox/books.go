package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

// open locks the key's entry; a new key gets one first, because a row that is not there cannot be locked.
func open(ctx context.Context, tx *database.Tx, key string, at time.Time) (entry, error) {
	_, err := tx.ExecContext(ctx, `INSERT INTO sandbox_charges
		(key, method, amount, currency, state, attempts, code, reference, refund_reference, updated_at)
		VALUES ($1, '', 0, '', 'open', 0, '', '', '', $2) ON CONFLICT (key) DO NOTHING`, key, at.UTC())
	if err != nil {
		return entry{}, fmt.Errorf("open %s: %w", key, database.Classify(err))
	}
	e := entry{key: key}
	err = tx.QueryRowContext(ctx, `SELECT method, amount, currency, state, attempts, code, reference, refund_reference
		FROM sandbox_charges WHERE key = $1`+tx.ForUpdate(), key).
		Scan(&e.method, &e.amount.Amount, &e.amount.Currency, &e.state, &e.attempts, &e.code, &e.reference, &e.refundReference)
	if err != nil {
		return entry{}, fmt.Errorf("read %s: %w", key, database.Classify(err))
	}
	return e, nil
}

func save(ctx context.Context, tx *database.Tx, e entry, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE sandbox_charges SET method = $2, amount = $3, currency = $4, state = $5,
		attempts = $6, code = $7, reference = $8, refund_reference = $9, updated_at = $10 WHERE key = $1`,
		e.key, e.method, e.amount.Amount, e.amount.Currency, e.state, e.attempts, e.code, e.reference, e.refundReference, at.UTC())
	if err != nil {
		return fmt.Errorf("write %s: %w", e.key, database.Classify(err))
	}
	return nil
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
