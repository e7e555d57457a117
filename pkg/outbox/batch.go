package outbox

import (
	"context"
	"maps"
	"math"
)

// batch is what one look found.
type batch struct {
	items []item
	tries map[int64]lane // rows among them whose lane has paused
	freed []int64        // those of them that are sent or gone: their lanes go on from there
	end   int64          // no other row below could be sent
	more  bool           // there may be others behind
}

// next looks for rows to send. Lanes that pause are left out, but for the rows at which they stopped. On PostgreSQL what was
// sent before is deleted by the same statement: a round trip costs more than either.
func (r *Relay) next(ctx context.Context) (batch, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	now := r.opts.Now()
	from := r.horizon.begin(now)
	left := filter{paused: &r.paused, shards: r.leases.numbers()}
	b := batch{tries: r.paused.due(now, max(1, r.opts.Limit/2)), end: math.MaxInt64}

	// A look that leaves rows out may end before those that can be sent. Below what is settled nothing is added, so it
	// is right to ask in another statement how far it can get.
	if left.on() && r.horizon.settled-from > window {
		last, full, err := reach(ctx, r.db, from)
		if err != nil {
			return batch{}, err
		}
		if full {
			b.end = last + 1
			b.more = min(b.end, r.horizon.settled) > from
		}
	}
	left.sent = r.sent
	items, full, err := rowsFrom(ctx, r.db, from, left, r.opts.Limit, maxBatchBytes)
	if err != nil {
		return batch{}, err
	}
	r.sent = r.sent[:0]
	b.items = items
	if full {
		b.end, b.more = items[len(items)-1].seq+1, true
	}
	if len(b.tries) == 0 {
		return b, nil
	}
	again, all, err := rowsAt(ctx, r.db, b.tries, maxBatchBytes)
	if err != nil {
		return batch{}, err
	}
	b.items = append(b.items, again...)
	if all {
		b.free(&r.paused, again)
	}
	return b, nil
}

// free ends the pauses of lanes whose row is gone: somebody has deleted it.
func (b *batch) free(p *pauses, there []item) {
	gone := maps.Clone(b.tries)
	for _, it := range there {
		delete(gone, it.seq)
	}
	for seq, l := range gone {
		delete(p.lanes, l)
		b.freed = append(b.freed, seq)
	}
}
