package database

import (
	"context"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/fault"
)

const (
	// changesMax bounds how many changes share a transaction.
	changesMax = 1024
	// changesTries bounds how often they are tried, when other transactions are in the way.
	changesTries = 3
)

// Changes is how calls that change one row each of a Table, and nothing else, share what that costs: those that come at
// the same time are read, written and committed at once. It is safe for concurrent use.
type Changes[R comparable] struct {
	group *coalesce.Group[change[R], R]
}

type change[R any] struct {
	key string
	of  func(R) (R, error)
}

type changeCall[R any] = coalesce.Call[change[R], R]

// NewChanges returns changes of a table in db.
func NewChanges[R comparable](db *DB, t *Table[R]) *Changes[R] {
	return &Changes[R]{coalesce.New(changesMax, 0, func(ctx context.Context, calls []*changeCall[R]) error {
		err := changeAll(ctx, db, t, calls)
		if err == nil || len(calls) == 1 || IsConflict(err) || fault.KindOf(err) == fault.Unavailable {
			return err
		}
		// It may be one that the database refuses: that takes nobody with it.
		err = nil
		for i, c := range calls {
			if fault.KindOf(err) != fault.Unavailable {
				err = changeAll(ctx, db, t, calls[i:i+1])
			}
			if err != nil {
				c.Err = err
			}
		}
		return nil
	})}
}

// Do commits what fn makes of the row with this key, and then returns it. fn is given the row, or the zero value when
// there is none; what it returns is written if it differs. It may be called several times. Of calls with one key each
// is given what the one before has made. Its error is this call's alone and leaves the row as it was; any other is
// classified, and when it is Unavailable nobody knows whether the change was made.
func (c *Changes[R]) Do(ctx context.Context, key string, fn func(row R) (R, error)) (R, error) {
	return c.group.Do(ctx, change[R]{key, fn})
}

// Waiting is how many calls wait for their transaction.
func (c *Changes[R]) Waiting() int { return c.group.Waiting() }

func changeAll[R comparable](ctx context.Context, db *DB, t *Table[R], calls []*changeCall[R]) (err error) {
	keys := make([]string, len(calls))
	for i, c := range calls {
		keys[i] = c.In.key
	}
	for range changesTries {
		err = db.InTx(ctx, func(ctx context.Context, tx *Tx) error {
			if err := t.Ahead(ctx, tx, keys...); err != nil {
				return err
			}
			for _, c := range calls {
				row, _, err := t.Load(ctx, tx, c.In.key)
				if err != nil {
					return err
				}
				if c.Out, c.Err = c.In.of(row); c.Err == nil && c.Out != row {
					t.Put(tx, c.Out)
				}
			}
			return nil
		})
		// A row that was not there could not be locked: another transaction may have been faster, and is now to be seen.
		if !IsUnique(err) && !IsConflict(err) {
			break
		}
	}
	if err != nil {
		for _, c := range calls {
			c.Err = nil // it went by what is undone
		}
	}
	return err
}
