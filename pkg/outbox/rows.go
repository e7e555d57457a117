package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// lane is what order is kept in: the rows of one key for one topic.
type lane struct{ topic, key string }

// item is a row on its way. err is why it cannot be sent at all.
type item struct {
	lane
	seq   int64
	event event.Event
	err   error
}

const columns = `seq, topic, aggregateid, headers, payload`

// window bounds how many rows one look walks over that it leaves out.
const window = 1 << 16

// filter is what a look leaves out: lanes that pause, and shards that are not held. What was sent it deletes.
type filter struct {
	paused *pauses
	shards []int64 // nil when all are held
	sent   []int64 // on PostgreSQL alone
}

func (f filter) on() bool { return len(f.paused.lanes) > 0 || f.shards != nil }

// rowsFrom returns the oldest rows from seq from on, in order, at most limit and maxBytes. When it leaves some out, it
// looks at the window oldest ones only. full tells that there may be more rows than it returned.
//
// It is one statement, and must be: read in two, the second could see a younger row of a lane whose older row was
// committed between them.
func rowsFrom(ctx context.Context, db *database.DB, from int64, f filter, limit, maxBytes int) (items []item, full bool, err error) {
	text, args := `SELECT `+columns+` FROM outbox WHERE seq >= $1 ORDER BY seq LIMIT $2`, []any{from, limit}
	if f.on() || len(f.sent) > 0 {
		text, args = f.query(db.Dialect(), from, limit)
	}
	items, cut, err := load(ctx, db, maxBytes, text, args...)
	return items, cut || len(items) == limit, err
}

// query is rowsFrom's with a filter. NOT IN of a subquery, because PostgreSQL makes a hash table of it and still walks
// the rows in order, no farther than to the limit; an anti join would sort them all. What the statement deletes it still sees.
func (f filter) query(d database.Dialect, from int64, limit int) (text string, args []any) {
	var with, conditions []string
	if len(f.paused.lanes) > 0 {
		text, args = d.Columns(f.paused.columns()...)
		with = append(with, `paused AS (`+text+`)`) // in front, as Columns wants it
		conditions = append(conditions, `(topic, aggregateid) NOT IN (SELECT * FROM paused)`)
	}
	arg := func(value any) string {
		args = append(args, value)
		return "$" + strconv.Itoa(len(args))
	}
	if len(f.sent) > 0 {
		sent := arg(f.sent) + `::bigint[]`
		with = append(with, `sent AS (`+deletion(d, `= ANY(`+sent+`)`)+`)`)
		conditions = append(conditions, `seq NOT IN (SELECT unnest(`+sent+`))`)
	}
	if f.shards != nil {
		conditions = append(conditions, shardOf+` = ANY(`+arg(f.shards)+`::bigint[])`)
	}
	if len(with) > 0 {
		text = `WITH ` + strings.Join(with, `, `) + ` `
	}
	return text + `SELECT ` + columns + ` FROM (SELECT * FROM outbox WHERE seq >= ` + arg(from) + ` ORDER BY seq LIMIT ` + arg(window) + `) AS oldest
		WHERE ` + strings.Join(conditions, ` AND `) + ` ORDER BY seq LIMIT ` + arg(limit), args
}

// reach returns the last seq of the window that begins at from, 0 if there is no row, and whether the window is full.
func reach(ctx context.Context, db *database.DB, from int64) (last int64, full bool, err error) {
	var n int
	err = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0), COUNT(*)
		FROM (SELECT seq FROM outbox WHERE seq >= $1 ORDER BY seq LIMIT $2) AS oldest`, from, window).Scan(&last, &n)
	if err != nil {
		return 0, false, fmt.Errorf("read outbox: %w", database.Classify(err))
	}
	return last, n == window, nil
}

// rowsAt returns the rows with these seqs, in order, at most maxBytes. all tells that no more of them are there.
func rowsAt(ctx context.Context, db *database.DB, seqs map[int64]lane, maxBytes int) (items []item, all bool, err error) {
	in, args := db.Dialect().InInts(slices.Collect(maps.Keys(seqs)))
	items, cut, err := load(ctx, db, maxBytes, `SELECT `+columns+` FROM outbox WHERE seq `+in+` ORDER BY seq`, args...)
	return items, !cut, err
}

// load reads rows, and ends early when they hold more than maxBytes together.
func load(ctx context.Context, db *database.DB, maxBytes int, query string, args ...any) (items []item, cut bool, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, fmt.Errorf("read outbox: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	size := 0
	for rows.Next() {
		var it item
		var headers, payload string
		if err := rows.Scan(&it.seq, &it.topic, &it.key, &headers, &payload); err != nil {
			return nil, false, fmt.Errorf("read outbox: %w", database.Classify(err))
		}
		it.event, it.err = rebuild(headers, payload)
		items = append(items, it)
		if size += len(headers) + len(payload); size > maxBytes {
			return items, true, nil
		}
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("read outbox: %w", database.Classify(err))
	}
	return items, false, nil
}

func rebuild(headers, payload string) (event.Event, error) {
	h, err := decodeHeaders(headers)
	if err != nil {
		return event.Event{}, err
	}
	e, err := event.FromHeaders(h, []byte(payload))
	return e, fault.AsPermanent(err)
}

// remove deletes rows that were acknowledged. Whoever does it, and whenever, it is right: what is acknowledged is in its
// topic, behind all older rows of its lane, and needs to be sent no more.
func remove(ctx context.Context, db *database.DB, seqs []int64) error {
	in, args := db.Dialect().InInts(seqs)
	if _, err := db.ExecContext(ctx, deletion(db.Dialect(), in), args...); err != nil {
		return fmt.Errorf("delete %d sent rows from outbox: %w", len(seqs), err)
	}
	return nil
}

// deletion is the statement of remove. PostgreSQL need not wait for its disk: a deletion that a crash undoes is a row that is
// sent again.
func deletion(d database.Dialect, in string) string {
	query := `DELETE FROM outbox WHERE seq ` + in
	if d == database.Postgres {
		query += ` AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'`
	}
	return query
}
