package database

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Purge deletes the rows of table whose column age is upTo or before, at most limit in a transaction, until none are
// left, and returns how many it deleted. The column needs an index. It may run in several processes at once: on
// PostgreSQL each leaves out rows that another has locked. Rows for which the condition keep holds, if there is one, stay.
// Names and condition are taken as they are.
//
// Each batch begins where the one before it ended, and not with the oldest row: PostgreSQL's index has what was deleted
// until the next vacuum, and each batch would walk over all before it.
func (db *DB) Purge(ctx context.Context, table, age, keep string, upTo time.Time, limit int) (total int, err error) {
	row, lock := "ctid", " FOR UPDATE SKIP LOCKED"
	if db.dialect == SQLite {
		row, lock = "rowid", ""
	}
	if keep != "" {
		keep = " AND NOT (" + keep + ")"
	}
	query := fmt.Sprintf(`DELETE FROM %[1]s WHERE %[2]s IN
		(SELECT %[2]s FROM %[1]s WHERE %[3]s >= $1 AND %[3]s <= $2%[5]s ORDER BY %[3]s LIMIT $3%[4]s) RETURNING %[3]s`,
		table, row, age, lock, keep)
	for from := (time.Time{}); ctx.Err() == nil; {
		n := 0
		err := db.InTx(ctx, func(ctx context.Context, tx *Tx) (err error) {
			rows, err := tx.QueryContext(ctx, query, from.UTC(), upTo.UTC(), limit)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			for ; rows.Next(); n++ {
				var at time.Time
				if err := rows.Scan(&at); err != nil {
					return err
				}
				if at.After(from) {
					from = at
				}
			}
			return rows.Err()
		})
		if err != nil {
			return total, fmt.Errorf("purge %s: %w", table, err)
		}
		if total += n; n < limit {
			break
		}
	}
	return total, nil
}
