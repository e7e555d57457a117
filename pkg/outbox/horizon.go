package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// fullLook is how often the relay looks from the first row on, whatever it remembers: for rows that were put in by
// hand, and those of transactions that did not keep to what doc.go asks of them.
const fullLook = time.Minute

// horizon is where the relay begins to look, so that a look does not walk over what was deleted before (to PostgreSQL's
// index that is there until a vacuum, and as long as any old snapshot is open) nor over lanes that pause.
type horizon struct {
	// from: no row below it can be sent now. Each is of a lane that pauses or of a shard that is not held, and none can
	// appear any more.
	from int64
	// settled: no row below it can appear any more.
	settled int64
	// drawn is the seq that was given out last when open was read, and open are the transactions that wrote to the
	// table then and go on: what appears with a seq up to drawn is theirs.
	drawn int64
	open  map[string]bool

	looked time.Time // from the first row on
}

// reset makes the next look begin with the first row.
func (h *horizon) reset() { h.from, h.looked = 0, time.Time{} }

// begin is where a look begins now.
func (h *horizon) begin(now time.Time) int64 {
	if now.Sub(h.looked) >= fullLook {
		h.from, h.looked = 0, now
	}
	return h.from
}

// advance notes that no row below seq needs to be looked at again, of those that have appeared.
func (h *horizon) advance(seq int64) { h.from = max(h.from, min(seq, h.settled)) }

// settle finds out which rows can appear no more. On SQLite transactions follow one another, so that is all up to the
// last number. On PostgreSQL a row appears when its transaction commits, and that can be long after its seq was drawn. A
// transaction that has drawn one holds the lock of writers on the table until its changes can be seen. So when those
// that held it once have all ended, every row whose seq had been drawn before is there, or never will be.
func (h *horizon) settle(ctx context.Context, db *database.DB) error {
	last := `SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'seq')::regclass), 0)`
	if db.Dialect() == database.SQLite {
		last = `SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'`
	}
	var drawn int64
	if err := db.QueryRowContext(ctx, last).Scan(&drawn); err != nil {
		return fmt.Errorf("read the outbox's last number: %w", database.Classify(err))
	}
	switch {
	case db.Dialect() == database.SQLite:
		h.settled = drawn + 1
		return nil
	case drawn == h.drawn && h.settled > drawn:
		return nil // nothing was written meanwhile
	}
	// After the sequence, so that whoever drew a number up to this one is among them.
	open, err := writers(ctx, db)
	if err != nil {
		return err
	}
	for id := range h.open {
		if !open[id] {
			delete(h.open, id)
		}
	}
	if len(h.open) == 0 {
		h.settled, h.drawn, h.open = h.drawn+1, drawn, open
	}
	return nil
}

// writers are the transactions that have written to the table and not ended.
func writers(ctx context.Context, db *database.DB) (open map[string]bool, err error) {
	rows, err := db.QueryContext(ctx, `SELECT virtualtransaction FROM pg_locks
		WHERE relation = 'outbox'::regclass AND mode = 'RowExclusiveLock'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err != nil {
		return nil, fmt.Errorf("read who writes to the outbox: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	open = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read who writes to the outbox: %w", database.Classify(err))
		}
		open[id] = true
	}
	return open, database.Classify(rows.Err())
}
