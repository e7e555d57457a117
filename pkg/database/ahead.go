package database

import (
	"context"
	"maps"
	"slices"
)

// Ahead holds rows of one kind that a transaction read in one statement before they were asked for, and that it writes
// in one statement before it commits. A store whose Load and Update look here first serves many in one transaction at
// the price of two statements. Nothing of it is undone by a savepoint: it is for transactions that fail as a whole.
type Ahead[T any] struct {
	rows    map[string]T
	changed map[string]bool
}

type aheadKey[T any] struct{}

// ReadAhead keeps rows, by id, for tx. Those that are changed are given to write just before the commit, by ascending
// id; its error undoes the transaction.
func ReadAhead[T any](tx *Tx, rows map[string]T, write func(ctx context.Context, changed []T) error) {
	a := &Ahead[T]{rows: rows, changed: map[string]bool{}}
	if tx.ahead == nil {
		tx.ahead = map[any]any{}
	}
	tx.ahead[aheadKey[T]{}] = a
	tx.before = append(tx.before, func(ctx context.Context) error {
		changed := make([]T, 0, len(a.changed))
		for _, id := range slices.Sorted(maps.Keys(a.changed)) {
			changed = append(changed, a.rows[id])
		}
		if len(changed) == 0 {
			return nil
		}
		return write(ctx, changed)
	})
}

// AheadOf returns what tx read ahead of a kind; of a transaction that did not, nothing.
func AheadOf[T any](tx *Tx) *Ahead[T] {
	a, ok := tx.ahead[aheadKey[T]{}].(*Ahead[T])
	if !ok {
		return &Ahead[T]{}
	}
	return a
}

// Get returns the row as the transaction has it, and false when it was not read ahead.
func (a *Ahead[T]) Get(id string) (T, bool) {
	row, ok := a.rows[id]
	return row, ok
}

// Has tells whether the row was read ahead: then Put takes its changes, and otherwise the caller writes them.
func (a *Ahead[T]) Has(id string) bool {
	_, ok := a.rows[id]
	return ok
}

// Put changes a row that was read ahead.
func (a *Ahead[T]) Put(id string, row T) { a.rows[id], a.changed[id] = row, true }
