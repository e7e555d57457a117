package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// shardCount is how many parts relays share on PostgreSQL; at most so many send at a time. It may be changed between
// two versions: what two relays with different ideas of a shard send is doubled, never out of order.
const shardCount = 8

// shardOf is the shard of a row, by its key. The database computes it when several relays share the work, so rows hold
// no shard and need none to be given to them. It need not be the same for ever, only for all who ask one server.
const shardOf = `(hashtext(aggregateid) & 7)`

// Names in outbox_lease: a lease for each shard, and one for each relay, which tells the others that it lives.
const (
	shardPrefix  = "shard-"
	memberPrefix = "member:"
)

// leases are the right to send. Each is a row with an instant until which it is held, and a fence, which grows with
// every change of hands: whoever finds another fence in the row than its own has lost it, even when the owner's name
// is the same.
type leases struct {
	db     *database.DB
	owner  string
	ttl    time.Duration
	every  time.Duration // how often keep looks at the table
	now    func() time.Time
	logger *slog.Logger
	shards []string

	held    map[string]int64 // fences by name, of shards and of the member
	looked  time.Time
	renewed time.Time
	began   bool
	shared  bool // with other relays
	changed bool // shards were won or lost since moved last said so
}

func newLeases(db *database.DB, opts RelayOptions) *leases {
	l := &leases{
		db: db, owner: opts.Owner, ttl: opts.LeaseTTL, every: min(opts.Poll, opts.LeaseTTL/3), now: opts.Now, logger: opts.Logger,
		held: map[string]int64{},
	}
	n := shardCount
	if db.Dialect() == database.SQLite {
		n = 1 // one process has the file
	}
	for i := range n {
		l.shards = append(l.shards, fmt.Sprint(shardPrefix, i))
	}
	return l
}

// numbers are the shards that are held; nil means all.
func (l *leases) numbers() []int64 {
	numbers := []int64{}
	for i, name := range l.shards {
		if _, held := l.held[name]; held {
			numbers = append(numbers, int64(i))
		}
	}
	if len(numbers) == len(l.shards) {
		return nil
	}
	return numbers
}

// none tells that there is nothing to send for.
func (l *leases) none() bool {
	n := l.numbers()
	return n != nil && len(n) == 0
}

// row is what the table says of one lease.
type leaseRow struct {
	owner string
	fence int64
	until time.Time
}

// due tells that it is time to keep them. That is no more often than every.
func (l *leases) due() bool { return l.now().Sub(l.looked) >= l.every }

// keep makes sure that what is held is held for at least a third of its time, and that it is a fair share. It renews no
// more often than a third of the leases' time. It is called between two batches: what it gives back, nothing is under way
// of, and all that was sent of it is deleted.
func (l *leases) keep(ctx context.Context) error {
	now := l.now()
	if err := l.look(ctx, now); err != nil {
		return err
	}
	l.looked = now
	return nil
}

// moved tells that shards were won or lost since it last said so.
func (l *leases) moved() bool {
	changed := l.changed
	l.changed = false
	return changed
}

func (l *leases) look(ctx context.Context, now time.Time) error {
	if now.Sub(l.renewed) >= l.ttl/3 {
		if _, err := l.renew(ctx); err != nil {
			return err
		}
	}
	table, err := l.read(ctx)
	if err != nil {
		return err
	}
	if !l.complete(table) {
		if err := l.enter(ctx, now); err != nil {
			return err
		}
		if table, err = l.read(ctx); err != nil {
			return err
		}
	}
	for name, fence := range l.held {
		if table[name].fence != fence {
			l.lose(ctx, name)
		}
	}
	l.held[memberPrefix+l.owner] = table[memberPrefix+l.owner].fence

	relays, dead := 0, []string(nil)
	for name, row := range table {
		switch age := now.Sub(row.until); {
		case !strings.HasPrefix(name, memberPrefix):
		case age < 0 || name == memberPrefix+l.owner:
			relays++
		case age > 10*l.ttl:
			dead = append(dead, name)
		}
	}
	if err := l.forget(ctx, dead); err != nil {
		return err
	}
	l.shared = relays > 1
	relays = max(1, relays) // our own row may just have been removed, by one to which we seemed dead
	return l.share(ctx, now, table, (len(l.shards)+relays-1)/relays)
}

// share gives back what is more than a fair share, and takes what is free up to it: it was given back, has run out, or
// belongs to a former self. The first time, a lease in our own name is that of a process that died and whose place we
// took.
func (l *leases) share(ctx context.Context, now time.Time, table map[string]leaseRow, fair int) error {
	mine, free := map[string]int64{}, map[string]int64{}
	for _, name := range l.shards {
		row := table[name]
		_, held := l.held[name]
		switch {
		case held:
			mine[name] = row.fence
		case !row.until.After(now) || !l.began && row.owner == l.owner:
			free[name] = row.fence
		}
	}
	l.began = true
	if len(mine) > fair {
		for _, name := range slices.Sorted(maps.Keys(mine))[:fair] {
			delete(mine, name)
		}
		for name := range mine {
			delete(l.held, name)
		}
		l.changed = true
		_, err := l.update(ctx, mine, 0, time.Unix(0, 0))
		return err
	}
	if want := min(fair-len(mine), len(free)); want > 0 {
		for _, name := range slices.Sorted(maps.Keys(free))[want:] {
			delete(free, name)
		}
		// The fence that was read makes of several that try exactly one the winner.
		won, err := l.update(ctx, free, 1, now.Add(l.ttl))
		if err != nil {
			return err
		}
		for _, name := range won {
			l.held[name], l.changed = free[name]+1, true
		}
	}
	return nil
}

// renew extends all leases in one statement, and notes which are no longer ours. It returns whether there are such.
func (l *leases) renew(ctx context.Context) (lost bool, err error) {
	now := l.now()
	kept, err := l.update(ctx, l.held, 0, now.Add(l.ttl))
	if err != nil {
		return false, err
	}
	for name := range l.held {
		if !slices.Contains(kept, name) {
			l.lose(ctx, name)
			lost = true
		}
	}
	l.renewed = now
	return lost, nil
}

func (l *leases) lose(ctx context.Context, name string) {
	delete(l.held, name)
	if strings.HasPrefix(name, shardPrefix) {
		l.changed = true
		l.logger.WarnContext(ctx, "outbox: another relay has taken over", "owner", l.owner, "lease", name)
	}
}

// release lets others take the leases at once.
func (l *leases) release(ctx context.Context) error {
	held := l.held
	l.held = map[string]int64{}
	if _, err := l.update(ctx, held, 0, time.Unix(0, 0)); err != nil {
		return err
	}
	return l.forget(ctx, []string{memberPrefix + l.owner})
}

// update writes the leases whose fence is as given, in one statement, and returns which those were.
func (l *leases) update(ctx context.Context, fences map[string]int64, step int64, until time.Time) (done []string, err error) {
	if len(fences) == 0 {
		return nil, nil
	}
	names := slices.Sorted(maps.Keys(fences))
	numbers := make([]int64, len(names))
	for i, name := range names {
		numbers[i] = fences[name]
	}
	values, args := l.db.Dialect().Columns(database.Texts(names), database.Ints(numbers))
	n := len(args)
	query := fmt.Sprintf(`WITH given (name, fence) AS (%s) UPDATE outbox_lease SET owner = $%d, fence = given.fence + $%d, until = $%d
		FROM given WHERE outbox_lease.name = given.name AND outbox_lease.fence = given.fence RETURNING outbox_lease.name`, values, n+1, n+2, n+3)
	err = l.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) (err error) {
		rows, err := tx.QueryContext(ctx, query, append(args, l.owner, step, until.UTC())...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			done = append(done, name)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("write the outbox's leases: %w", err)
	}
	return done, nil
}

func (l *leases) read(ctx context.Context) (table map[string]leaseRow, err error) {
	rows, err := l.db.QueryContext(ctx, `SELECT name, owner, fence, until FROM outbox_lease`)
	if err != nil {
		return nil, fmt.Errorf("read the outbox's leases: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	table = map[string]leaseRow{}
	for rows.Next() {
		var name string
		var row leaseRow
		if err := rows.Scan(&name, &row.owner, &row.fence, &row.until); err != nil {
			return nil, fmt.Errorf("read the outbox's leases: %w", database.Classify(err))
		}
		table[name] = row
	}
	return table, database.Classify(rows.Err())
}

// complete tells whether the table has all rows that this relay needs.
func (l *leases) complete(table map[string]leaseRow) bool {
	for _, name := range append(l.shards[:len(l.shards):len(l.shards)], memberPrefix+l.owner) {
		if _, ok := table[name]; !ok {
			return false
		}
	}
	return true
}

// enter adds the rows that are missing: the shards', free, and the relay's own.
func (l *leases) enter(ctx context.Context, now time.Time) error {
	names := append(slices.Clone(l.shards), memberPrefix+l.owner)
	untils := slices.Repeat([]time.Time{time.Unix(0, 0).UTC()}, len(names))
	untils[len(l.shards)] = now.Add(l.ttl).UTC()
	values, args := l.db.Dialect().Columns(database.Texts(names), database.Texts(slices.Repeat([]string{l.owner}, len(names))),
		database.Ints(make([]int64, len(names))), database.Times(untils))
	if _, err := l.db.ExecContext(ctx, `INSERT INTO outbox_lease (name, owner, fence, until) `+values+` ON CONFLICT (name) DO NOTHING`, args...); err != nil {
		return fmt.Errorf("enter the outbox's leases: %w", err)
	}
	return nil
}

// forget removes relays.
func (l *leases) forget(ctx context.Context, members []string) error {
	if len(members) == 0 {
		return nil
	}
	in, args := l.db.Dialect().In(members)
	if _, err := l.db.ExecContext(ctx, `DELETE FROM outbox_lease WHERE name `+in, args...); err != nil {
		return fmt.Errorf("remove relays from the outbox's leases: %w", err)
	}
	return nil
}
