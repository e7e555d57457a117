package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// Sender carries events to their topics.
type Sender interface {
	// SendBatch sends the events and returns what became of each, by index; nil means that all were sent. An event
	// without an error is one that the broker has acknowledged. It returns soon after ctx ends.
	SendBatch(ctx context.Context, batch []event.Addressed) []error
}

// RelayOptions are a relay's settings. Zero values mean the defaults.
type RelayOptions struct {
	// Owner names this relay in the lease. A relay that starts takes over a lease in its own name without waiting for
	// its end, so it should be a name that only one process has at a time (a StatefulSet's pod, say). The default on
	// SQLite is a fixed name, since one service has the file to itself, and its restart shall not wait for the lease of
	// the process that was killed; on PostgreSQL it is a new one for each relay.
	Owner string
	// Poll is how often to look for rows that no commit of this process announced (another replica's), and for a lease
	// that has come free. Default 1 s. While such rows are found it looks more often, down to every 20 ms.
	Poll time.Duration
	// LeaseTTL is after what time without a sign of life another replica takes over. Default 10 s.
	LeaseTTL time.Duration
	// Limit is how many events go into one batch, default 256, at most database.MaxRows.
	Limit int
	// SendTimeout is how long a batch may take, default 30 s. A sender that keeps to it no longer keeps the lease.
	SendTimeout time.Duration
	// StopTimeout is how long a batch under way may go on once Run is to end, default 5 s.
	StopTimeout time.Duration
	// BackoffInitial and BackoffMax bound the pause of a key whose event could not be sent, doubling from 100 ms to 5 s.
	BackoffInitial, BackoffMax time.Duration
	// Now is the clock of lease and pauses. Default: the factory's.
	Now func() time.Time
	// Logger hears of trouble with database and sender. Default: the outbox's.
	Logger *slog.Logger
	// Registerer gets the metrics; nil for none. One relay a registry.
	Registerer prometheus.Registerer
}

const (
	// maxBatchBytes bounds what a batch holds in memory, beside its last event.
	maxBatchBytes = 8 << 20
	// maxWindow bounds how many rows are looked at to fill a batch.
	maxWindow = 1 << 16
	// quickPoll is the shortest poll, while other replicas' rows keep coming.
	quickPoll = 20 * time.Millisecond
	// dbTimeout bounds each of the relay's own transactions.
	dbTimeout = 10 * time.Second
	// abandonAfter is how much longer than told a sender may take once the relay is to stop.
	abandonAfter = 500 * time.Millisecond
	// releaseTimeout bounds giving back the lease.
	releaseTimeout = 2 * time.Second
)

// Relay carries rows of the outbox to a Sender.
type Relay struct {
	db      *database.DB
	sender  Sender
	opts    RelayOptions
	wake    <-chan struct{}
	lease   *lease
	metrics *metrics

	window int // rows looked at for heads
	poll   time.Duration
	sent   []int64 // acknowledged rows whose deletion is outstanding
	paused pauses
}

// Relay returns a relay that is woken by this outbox's commits. It does nothing until Run.
func (o *Outbox) Relay(s Sender, opts RelayOptions) *Relay {
	if opts.Owner == "" {
		if opts.Owner = "sqlite"; o.db.Dialect() != database.SQLite {
			opts.Owner = o.factory.NewID()
		}
	}
	setDefault(&opts.Poll, time.Second)
	setDefault(&opts.LeaseTTL, 10*time.Second)
	setDefault(&opts.SendTimeout, 30*time.Second)
	setDefault(&opts.StopTimeout, 5*time.Second)
	setDefault(&opts.BackoffInitial, 100*time.Millisecond)
	setDefault(&opts.BackoffMax, 5*time.Second)
	if opts.Limit <= 0 {
		opts.Limit = 256
	}
	opts.Limit = min(opts.Limit, database.MaxRows)
	if opts.Now == nil {
		opts.Now = o.factory.Now
	}
	if opts.Logger == nil {
		opts.Logger = o.opts.Logger
	}
	return &Relay{
		db: o.db, sender: s, opts: opts, wake: o.addWake(),
		lease:   &lease{db: o.db, owner: opts.Owner, ttl: opts.LeaseTTL, now: opts.Now},
		metrics: newMetrics(o.db, opts.Now, opts.Registerer),
		window:  2 * opts.Limit, poll: opts.Poll,
		paused: pauses{initial: opts.BackoffInitial, max: opts.BackoffMax, lanes: map[lane]pause{}},
	}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Run sends until ctx ends. Then it lets the batch under way finish, within StopTimeout, gives back the lease, and
// returns nil. It is called once. Nothing makes it return earlier: while database or broker are away it tries on.
func (r *Relay) Run(ctx context.Context) error {
	// work goes on for StopTimeout after ctx has ended.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(r.opts.StopTimeout, cancel)
		context.AfterFunc(work, func() { timer.Stop() })
	})()

	down := false
	for ctx.Err() == nil {
		next, err := r.round(ctx, work)
		switch {
		case errors.Is(err, errDeposed):
			r.opts.Logger.WarnContext(ctx, "outbox: another relay has taken over", "owner", r.opts.Owner)
			r.sent, next = nil, pace{wait: r.opts.Poll}
			clear(r.paused.lanes)
		case err != nil:
			if !down && ctx.Err() == nil {
				r.opts.Logger.WarnContext(ctx, "outbox: the database cannot be used; trying on", "error", err)
			}
			next = pace{wait: r.opts.Poll}
		case down:
			r.opts.Logger.InfoContext(ctx, "outbox: the database is back")
		}
		down = err != nil && !errors.Is(err, errDeposed)
		r.rest(ctx, next)
	}
	r.leave(ctx)
	return nil
}

// leave deletes what is still noted as sent, and gives back the lease.
func (r *Relay) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := r.removeSent(ctx)
	if err == nil {
		err = r.lease.release(ctx)
	}
	if err != nil && !errors.Is(err, errDeposed) {
		r.opts.Logger.WarnContext(ctx, "outbox: the lease could not be given back; it runs out by itself", "error", err)
	}
}

// pace is how long to rest, and whether a commit ends it.
type pace struct {
	wait     time.Duration
	wakeable bool
}

func (r *Relay) rest(ctx context.Context, p pace) {
	if p.wait <= 0 {
		return
	}
	wake := r.wake
	if !p.wakeable {
		wake = nil
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// round sends one batch. ctx ends what may be broken off, work what should be finished.
func (r *Relay) round(ctx, work context.Context) (pace, error) {
	held, rest, err := r.hold(work)
	if err != nil {
		return pace{}, err
	}
	if !held {
		return pace{wait: min(max(rest, quickPoll), r.opts.Poll)}, nil
	}
	if err := r.removeSent(work); err != nil {
		return pace{}, err
	}
	batch, more, err := r.next(ctx)
	if err != nil {
		return pace{}, err
	}
	if len(batch) == 0 {
		if more {
			return pace{}, nil // look further
		}
		rest := r.paused.until(r.opts.Now(), r.poll)
		r.poll = min(2*r.poll, r.opts.Poll)
		return pace{wait: rest, wakeable: true}, nil
	}
	r.poll = quickPoll
	errs, err := r.send(work, batch)
	if err != nil {
		return pace{}, err
	}
	sent := r.settle(ctx, batch, errs)
	if err := r.removeSent(work); err != nil {
		return pace{}, err
	}
	if sent == 0 {
		// The keys pause by themselves. This spares a broker that is away from being asked about every other key.
		return pace{wait: r.opts.BackoffInitial}, nil
	}
	return pace{}, nil
}

// hold is not broken off by the end of Run's context: a lease taken without knowing it would not be given back.
func (r *Relay) hold(work context.Context) (bool, time.Duration, error) {
	ctx, cancel := context.WithTimeout(work, dbTimeout)
	defer cancel()
	return r.lease.hold(ctx)
}

// next returns the heads of lanes that do not pause, at most one batch. When it finds few among many rows, it looks
// further the next time, so that lanes that are long or pause do not hide the others behind them.
func (r *Relay) next(ctx context.Context) (batch []item, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	all, more, err := heads(ctx, r.db, r.window)
	if err != nil {
		return nil, false, err
	}
	now := r.opts.Now()
	var due []head
	for _, h := range all {
		if len(due) < r.opts.Limit && !r.paused.has(h.lane, now) {
			due = append(due, h)
		}
	}
	switch {
	case !more:
		r.window = 2 * r.opts.Limit
	case len(due) < r.opts.Limit/2 && r.window < maxWindow:
		r.window = min(4*r.window, maxWindow)
	case len(due) < r.opts.Limit/2:
		more = false // as far as it goes
	default:
		// Enough was found.
		r.window, more = max(r.window/2, 2*r.opts.Limit), false
	}
	if len(due) == 0 {
		return nil, more, nil
	}
	batch, err = load(ctx, r.db, due, maxBatchBytes)
	return batch, more, err
}

// send gives the batch to the sender and keeps the lease alive meanwhile, for as long as the sender keeps within its
// time. It returns what became of each item. An error means that the relay could not wait for that.
func (r *Relay) send(ctx context.Context, batch []item) ([]error, error) {
	errs := make([]error, len(batch))
	var events []event.Addressed
	var index []int // of events in batch
	for i, it := range batch {
		if errs[i] = it.err; it.err == nil {
			events, index = append(events, event.Addressed{Topic: it.topic, Event: it.event}), append(index, i)
		}
	}
	if len(events) == 0 {
		return errs, nil
	}
	sendCtx, cancel := context.WithTimeout(ctx, r.opts.SendTimeout)
	defer cancel()
	done := make(chan []error, 1)
	go func() { done <- r.sender.SendBatch(sendCtx, events) }()

	abandon := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(abandonAfter, func() { close(abandon) }) })()
	renew := time.NewTicker(r.opts.LeaseTTL / 3)
	defer renew.Stop()
	for {
		select {
		case results := <-done:
			if results != nil && len(results) != len(events) {
				err := fault.Permanentf("the sender answered %d of %d events", len(results), len(events))
				results = make([]error, len(events))
				for i := range results {
					results[i] = err
				}
			}
			for i, err := range results {
				errs[index[i]] = err
			}
			return errs, nil
		case <-renew.C:
			if sendCtx.Err() == nil && r.lease.fence != 0 {
				r.renewWhileSending(sendCtx, cancel)
			}
		case <-abandon:
			r.opts.Logger.WarnContext(ctx, "outbox: the sender does not return; its events stay and are sent again")
			return nil, fmt.Errorf("outbox: the sender did not return within %v after it was told to stop", abandonAfter)
		}
	}
}

// renewWhileSending keeps the lease, or has the sender stop when it was lost. When the database is away, the lease runs
// out by itself.
func (r *Relay) renewWhileSending(ctx context.Context, stop context.CancelFunc) {
	db, cancel := context.WithTimeout(ctx, r.opts.LeaseTTL/3)
	defer cancel()
	err := r.db.InTx(db, func(ctx context.Context, tx *database.Tx) error { return r.lease.renew(ctx, tx) })
	if errors.Is(err, errDeposed) {
		stop()
	}
}

// settle books what became of a batch and returns how many were sent.
func (r *Relay) settle(ctx context.Context, batch []item, errs []error) int {
	failed := 0
	for i, it := range batch {
		err := errs[i]
		if err == nil {
			r.sent = append(r.sent, it.seq)
			delete(r.paused.lanes, it.lane)
			continue
		}
		failed++
		// One line for a key's first failure, of the first such key in a batch: an outage is not one line an event.
		if first := r.paused.add(it.lane, r.opts.Now()); first && (failed == 1 || fault.KindOf(err) == fault.Permanent) {
			level := slog.LevelWarn
			if fault.KindOf(err) == fault.Permanent {
				level = slog.LevelError
			}
			r.opts.Logger.Log(ctx, level, "outbox: an event could not be sent; its key waits", "topic", it.topic, "key", it.key,
				"seq", it.seq, "event_id", it.event.ID, "event_type", it.event.Type, "kind", fault.KindOf(err).String(), "error", err)
		}
	}
	sent := len(batch) - failed
	r.metrics.sent.Add(float64(sent))
	r.metrics.errs.Add(float64(failed))
	return sent
}

// removeSent deletes what was acknowledged. What it cannot delete stays noted and is not sent again by this relay while
// it holds the lease.
func (r *Relay) removeSent(ctx context.Context) error {
	if len(r.sent) == 0 {
		return nil
	}
	if r.lease.fence == 0 {
		return errDeposed
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if err := remove(ctx, r.lease, r.sent); err != nil {
		return err
	}
	r.sent = r.sent[:0]
	return nil
}
