package database

import "context"

// PutOff is work that a transaction has put off, to do it for many rows at once.
type PutOff interface {
	// Flush does the work and leaves none. It may be called with nothing to do, and more than once. It puts nothing off.
	Flush(ctx context.Context, tx *Tx) error
}

// PutOffBy returns the work that tx has put off under key, which fresh makes at the first call. It is done just before the
// commit, in the order of those first calls, and before and after a savepoint's part; its error undoes the transaction, or
// the part. What a part that is undone put off is forgotten with all that was kept under any key: the next call makes it anew.
//
// Rows of several tables that other transactions write too belong under one key, whose Flush goes through them in one
// order: that of the first calls is the messages'.
func PutOffBy[P PutOff](tx *Tx, key any, fresh func() P) P {
	tx.writes++
	return putOffBy(tx, key, fresh)
}

func putOffBy[P PutOff](tx *Tx, key any, fresh func() P) P {
	if p, ok := tx.putOff[key]; ok {
		return p.(P) //nolint:forcetypeassert // a key is one package's own, and of one type
	}
	p := fresh()
	if tx.putOff == nil {
		tx.putOff = map[any]PutOff{}
	}
	tx.putOff[key] = p
	tx.order = append(tx.order, p)
	return p
}

// Flush does what was put off now: for a statement that wants to see it.
func (tx *Tx) Flush(ctx context.Context) error {
	for _, p := range tx.order {
		if err := p.Flush(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// forget drops what was put off and what was kept to that end.
func (tx *Tx) forget() { tx.putOff, tx.order = nil, nil }

// Writes counts what may have changed something so far: statements executed, calls of Put and of PutOffBy. As long as it
// stays the same, there is nothing to undo.
func (tx *Tx) Writes() int { return tx.writes }
