package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// lane is what order is kept in: the rows of one key for one topic.
type lane struct{ topic, key string }

// head is the oldest row of a lane.
type head struct {
	lane
	seq int64
}

// heads returns the oldest row of every lane among the window oldest rows, in order, and whether there may be more rows
// behind the window.
//
// It is one statement, and must be: read in two, the second could see a younger row of a lane whose older row was
// committed between them.
func heads(ctx context.Context, db *database.DB, window int) (found []head, more bool, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT MIN(seq), topic, aggregateid, COUNT(*)
		FROM (SELECT seq, topic, aggregateid FROM outbox ORDER BY seq LIMIT $1) AS oldest
		GROUP BY topic, aggregateid ORDER BY 1`, window)
	if err != nil {
		return nil, false, fmt.Errorf("read outbox: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	total := 0
	for rows.Next() {
		var h head
		var n int
		if err := rows.Scan(&h.seq, &h.topic, &h.key, &n); err != nil {
			return nil, false, fmt.Errorf("read outbox: %w", database.Classify(err))
		}
		found = append(found, h)
		total += n
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("read outbox: %w", database.Classify(err))
	}
	return found, total >= window, nil
}

// item is a row on its way. err is why it cannot be sent at all.
type item struct {
	head
	event event.Event
	err   error
}

// load reads the rows of these heads, in order, and ends early when they hold more than maxBytes together.
func load(ctx context.Context, db *database.DB, hs []head, maxBytes int) (items []item, err error) {
	seqs := make([]int64, len(hs))
	for i, h := range hs {
		seqs[i] = h.seq
	}
	rows, err := db.QueryContext(ctx, `SELECT seq, topic, aggregateid, headers, payload FROM outbox
		WHERE seq IN (`+database.List(1, len(seqs))+`) ORDER BY seq`, database.Args(nil, seqs...)...)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for size := 0; size <= maxBytes && rows.Next(); {
		var it item
		var headers, payload string
		if err := rows.Scan(&it.seq, &it.topic, &it.key, &headers, &payload); err != nil {
			return nil, fmt.Errorf("read outbox: %w", database.Classify(err))
		}
		it.event, it.err = rebuild(headers, payload)
		size += len(headers) + len(payload)
		items = append(items, it)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read outbox: %w", database.Classify(err))
	}
	return items, nil
}

func rebuild(headers, payload string) (event.Event, error) {
	var h map[string]string
	if err := json.Unmarshal([]byte(headers), &h); err != nil {
		return event.Event{}, fault.Permanentf("the column headers is not a JSON object of texts: %w", err)
	}
	e, err := event.FromHeaders(h, []byte(payload))
	return e, fault.AsPermanent(err)
}

// remove deletes the rows in one statement, if the lease is still ours.
func remove(ctx context.Context, l *lease, seqs []int64) error {
	err := l.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err := l.renew(ctx, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE seq IN (`+database.List(1, len(seqs))+`)`, database.Args(nil, seqs...)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete %d sent rows from outbox: %w", len(seqs), err)
	}
	return nil
}
