package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// leaseName is the only one so far. Shards of the outbox would have a lease each.
const leaseName = "relay"

// errDeposed: another relay holds the lease now.
var errDeposed = errors.New("outbox: the lease was taken over")

// lease is the right to send. Its fence identifies it: every change of hands makes a new one, so whoever finds another
// fence in the row than its own has lost the right, even when the owner's name is the same.
type lease struct {
	db    *database.DB
	owner string
	ttl   time.Duration
	now   func() time.Time

	fence int64     // 0 while not held
	until time.Time // by our clock
	began bool      // it has been held before
}

// hold makes sure that the lease is ours for half its time at least. When another holds it, it returns false and how
// long that one may keep it.
func (l *lease) hold(ctx context.Context) (held bool, rest time.Duration, err error) {
	now := l.now()
	if l.fence != 0 {
		if l.until.Sub(now) > l.ttl/2 {
			return true, 0, nil
		}
		err := l.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error { return l.renew(ctx, tx) })
		if err == nil || !errors.Is(err, errDeposed) {
			return err == nil, 0, err
		}
		return false, 0, errDeposed
	}
	return l.acquire(ctx, now)
}

// acquire takes the lease when it is free, has run out, or belongs to a former self: the first time, a lease in our own
// name is that of a process that died and whose place we took.
func (l *lease) acquire(ctx context.Context, now time.Time) (held bool, rest time.Duration, err error) {
	var (
		owner string
		fence int64
		until time.Time
	)
	// Looking comes before writing, so that those who wait cost a read.
	err = l.db.QueryRowContext(ctx, `SELECT owner, fence, until FROM outbox_lease WHERE name = $1`, leaseName).Scan(&owner, &fence, &until)
	none := errors.Is(err, sql.ErrNoRows)
	if err != nil && !none {
		return false, 0, fmt.Errorf("read lease: %w", database.Classify(err))
	}
	if rest := until.Sub(now); !none && rest > 0 && (l.began || owner != l.owner) {
		return false, rest, nil
	}
	mine := now.Add(l.ttl)
	var n int64
	err = l.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		// The fence that was read makes of several that try exactly one the winner.
		query := `UPDATE outbox_lease SET owner = $2, fence = $3, until = $4 WHERE name = $1 AND fence = $3 - 1`
		if none {
			query = `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`
		}
		result, err := tx.ExecContext(ctx, query, leaseName, l.owner, fence+1, mine.UTC())
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return false, 0, fmt.Errorf("take lease: %w", err)
	}
	if n == 0 {
		return false, 0, nil // another was quicker
	}
	l.fence, l.until, l.began = fence+1, mine, true
	return true, 0, nil
}

// renew extends the lease within tx, and returns errDeposed when it is no longer ours. It locks the lease's row until
// tx ends, so that nobody takes the lease while tx does what only its holder may do.
func (l *lease) renew(ctx context.Context, tx *database.Tx) error {
	until := l.now().Add(l.ttl)
	result, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET until = $2 WHERE name = $1 AND fence = $3`, leaseName, until.UTC(), l.fence)
	if err != nil {
		return fmt.Errorf("renew lease: %w", database.Classify(err))
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("renew lease: %w", database.Classify(err))
	}
	if n == 0 {
		l.fence = 0
		return errDeposed
	}
	// When tx does not commit, this is later than the row says. That only means to renew too late and be deposed.
	l.until = until
	return nil
}

// release lets another take the lease at once.
func (l *lease) release(ctx context.Context) error {
	if l.fence == 0 {
		return nil
	}
	fence := l.fence
	l.fence = 0
	return l.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET until = $2 WHERE name = $1 AND fence = $3`,
			leaseName, time.Unix(0, 0).UTC(), fence)
		return err
	})
}
