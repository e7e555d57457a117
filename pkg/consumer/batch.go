package consumer

import (
	"context"
	"errors"
	"sync"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// batcher lets the messages that wait share a transaction. One is under way at a time; whoever comes meanwhile waits
// for the next, and nobody waits for more to come. A message that finds nothing under way has its own at once.
type batcher struct {
	mu      sync.Mutex
	busy    bool
	waiting []*member
	// limit is how many share a transaction at most: Config.BatchMax, unless transactions of other processes were in
	// the way lately.
	limit int
}

// member is a message on its way to its commit. Its goroutine waits in commit, while its handler is called on that of the
// batch: hundreds of goroutines need no stack for it.
type member struct {
	ctx          context.Context
	event        event.Event
	mark, letter string
	effect       HandlerFunc

	// decided ends the wait; it has room, for a member that has gone.
	decided chan decision

	// These belong to who runs the transaction.

	duplicate bool
	// failed is why the message alone was undone, its transaction otherwise going on.
	failed error
	// out is set when no further turn in a batch is due.
	out bool
}

// decision is what becomes of a member.
type decision struct {
	err error
	// alone: nothing is known but that it did not come to a commit with others. It is to run its own transaction.
	alone bool
	// next: that transaction is the one under way, and whoever waits comes after it.
	next bool
}

// errPanic is that of a handler that panicked in a batch: it is called again on the message's own goroutine, where it may
// do so as it would without a batch.
var errPanic = errors.New("the handler panicked")

type aloneKey struct{}

// withoutOthers returns a context under which a message has its transaction to itself.
func withoutOthers(ctx context.Context) context.Context {
	return context.WithValue(ctx, aloneKey{}, true)
}

// commit takes the message to its commit. What it returns is true of the message alone: an error from its own
// transaction, or from its part of a batch that was committed without it. Attempts and dead letters go by it.
//
// At-most-once promises that a handler is called once, and a batch may have to be done again.
func (c *Consumer) commit(m *member) error {
	if m.ctx.Value(aloneKey{}) != nil {
		return c.alone(m, false)
	}
	if c.cfg.BatchMax == 1 || c.deps.Guarantee == kafka.AtMostOnce {
		return c.alone(m, true)
	}
	m.decided = make(chan decision, 1)
	if c.batcher.join(m) {
		defer c.next()
		return c.alone(m, true)
	}
	d := <-m.decided
	if d.next {
		defer c.next()
	}
	if d.alone {
		return c.alone(m, false)
	}
	return d.err
}

// alone runs a transaction for one message.
func (c *Consumer) alone(m *member, ahead bool) error {
	return c.transact(m.ctx, []*member{m}, ahead, func(ctx context.Context, tx *outbox.Tx, m *member) error { return c.apply(ctx, tx, m) })
}

// turn has m's handler called in the shared transaction, under m's own context: cause, span and log fields are its own.
func (c *Consumer) turn(tx *outbox.Tx, m *member) (err error) {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return c.apply(tx.Within(m.ctx), tx, m)
}

// join reports whether nothing was under way: m is then, and calls next when it is through. Otherwise m waits.
func (b *batcher) join(m *member) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.busy {
		b.busy = true
		return true
	}
	b.waiting = append(b.waiting, m)
	return false
}

// length is how many wait.
func (b *batcher) length() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.waiting))
}

// next starts a transaction of those that wait.
func (c *Consumer) next() {
	b := &c.batcher
	b.mu.Lock()
	batch := b.gather()
	b.busy = len(batch) > 0
	b.mu.Unlock()
	switch len(batch) {
	case 0:
	case 1:
		batch[0].decided <- decision{alone: true, next: true}
	default:
		go c.run(batch)
	}
}

// gather takes the first of those that wait, up to the limit, in their order. The second of two deliveries of one
// message stays for the next batch, where the inbox tells what became of the first.
func (b *batcher) gather() []*member {
	batch := make([]*member, 0, min(len(b.waiting), b.limit))
	var rest []*member
	marks := make(map[string]bool, cap(batch))
	for _, m := range b.waiting {
		if len(batch) == b.limit || marks[m.mark] {
			rest = append(rest, m)
			continue
		}
		marks[m.mark] = true
		batch = append(batch, m)
	}
	b.waiting = rest
	return batch
}

// learn sets the limit by what became of a batch of n. The more messages share a transaction the more locks it holds, in
// the order in which they came; two replicas whose messages share rows then stop each other, which a message's own
// transaction does not do. So after a conflict the limit is halved, and each full batch that commits lifts it by one.
func (b *batcher) learn(n, most int, conflict bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if conflict {
		b.limit = max(1, n/2)
	} else if n >= b.limit {
		b.limit = min(most, b.limit+1)
	}
}

// run sees a batch through. It is run as it is first. If a handler fails, that message goes its own way, and the others
// are run again with a savepoint each, which costs two statements a message and lets any number of them fail. What
// fails as a whole (the connection, the commit, a conflict) is left to each message's own transaction. So a handler is
// called three times at most in one attempt, and nobody's failure is another's; after a commit whose answer was lost,
// the inbox tells each message that it is done.
func (c *Consumer) run(batch []*member) {
	defer c.next()
	committed := false
	defer func() {
		if r := recover(); r != nil { // a hook after the commit, no handler: those are not called here
			c.deps.Logger.Error("a hook after a batch's commit panicked", "group", c.deps.Group, "panic", r)
		}
		// Also when a handler ended this goroutine: nothing was committed then.
		for _, m := range batch {
			if !m.out {
				m.decided <- decision{err: m.failed, alone: !committed || errors.Is(m.failed, errPanic)}
			}
		}
	}()
	contexts := make([]context.Context, len(batch))
	for i, m := range batch {
		contexts[i] = m.ctx
	}
	ctx, cancel := coalesce.WhileAny(contexts...) // nobody waits for the transaction after that
	defer cancel()

	var failed *member
	err := c.transact(ctx, batch, true, func(_ context.Context, tx *outbox.Tx, m *member) error {
		err := c.turn(tx, m)
		if err != nil {
			failed = m
		}
		return err
	})
	if err != nil && !database.IsConflict(err) && (failed != nil || fault.KindOf(err) != fault.Unavailable) {
		if failed != nil {
			failed.out = true
			failed.decided <- decision{alone: true}
		}
		c.deps.Logger.Debug("a batch is run again without what failed in it", "group", c.deps.Group, "messages", len(batch), "error", err)
		c.metrics.batchReruns.WithLabelValues("savepoints").Inc()
		err = c.transact(ctx, besides(batch, failed), false, func(ctx context.Context, tx *outbox.Tx, m *member) error {
			undone, err := tx.Savepoint(ctx, func() error { return c.turn(tx, m) })
			if err == nil && database.IsConflict(undone) {
				return undone // it may have waited long for a lock: not for each of them
			}
			m.failed = undone
			return err
		})
	}
	if err != nil {
		c.deps.Logger.Warn("a batch did not commit, each of its messages goes on by itself", "group", c.deps.Group, "messages", len(batch), "error", err)
		c.metrics.batchReruns.WithLabelValues("transactions").Inc()
	}
	committed = err == nil
	c.batcher.learn(len(batch), c.cfg.BatchMax, database.IsConflict(err))
}

func events(batch []*member) []event.Event {
	all := make([]event.Event, len(batch))
	for i, m := range batch {
		all[i] = m.event
	}
	return all
}

func besides(batch []*member, one *member) []*member {
	others := make([]*member, 0, len(batch))
	for _, m := range batch {
		if m != one {
			others = append(others, m)
		}
	}
	return others
}
