package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
)

// Sender carries events to their topics.
type Sender interface {
	// SendBatch sends the events and returns what became of each, by index; nil means that all were sent. An event
	// without an error is one that the broker has acknowledged. Events of one topic and key are sent in their order, and
	// when one of them is not sent, none behind it in the batch is sent either. It returns soon after ctx ends.
	SendBatch(ctx context.Context, batch []event.Addressed) []error
}

// RelayOptions are a relay's settings. Zero values mean the defaults.
type RelayOptions struct {
	// Owner names this relay in the leases. A relay that starts takes over leases in its own name without waiting for
	// their end, so it should be a name that only one process has at a time (a pod's, say). The default on
	// SQLite is a fixed name, since one service has the file to itself, and its restart shall not wait for the lease of
	// the process that was killed; on PostgreSQL it is a new one for each relay.
	Owner string
	// Poll is how often to look for rows that no commit of this process announced (another replica's), and for leases
	// that have come free. Default 1 s. It looks for rows more often while others share the work, each 100 ms, and while rows
	// are found, down to every 20 ms.
	Poll time.Duration
	// LeaseTTL is after what time without a sign of life another replica takes over. Default 10 s.
	LeaseTTL time.Duration
	// Limit is how many events go into one batch, default and at most database.MaxRows. Half as many again may be tries
	// of rows that could not be sent before.
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
	// quickPoll is the shortest poll, while other replicas' rows keep coming, and sharedPoll the longest while there are others:
	// half of what they commit is for this one to send, and no commit of theirs wakes it.
	quickPoll, sharedPoll = 20 * time.Millisecond, 100 * time.Millisecond
	// sentRest is how long what was sent may be in the table still, when nothing comes behind it.
	sentRest = 50 * time.Millisecond
	// dbTimeout bounds each step of the relay in the database.
	dbTimeout = 10 * time.Second
	// abandonAfter is how much longer than told a sender may take once the relay is to stop.
	abandonAfter = 500 * time.Millisecond
	// releaseTimeout bounds giving back the leases.
	releaseTimeout = 2 * time.Second
)

// Relay carries rows of the outbox to a Sender.
type Relay struct {
	db      *database.DB
	sender  Sender
	opts    RelayOptions
	wake    <-chan struct{}
	leases  *leases
	metrics *metrics

	horizon horizon
	settled time.Time // when horizon.settle was last asked
	poll    time.Duration
	woken   bool    // by a commit, since it last looked
	sent    []int64 // acknowledged rows whose deletion is outstanding, at most those of one batch
	paused  pauses
	broken  bool // the sender has broken its promise, and the log says so
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
		opts.Limit = database.MaxRows
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
		leases:  newLeases(o.db, opts),
		metrics: newMetrics(o.db, opts.Now, opts.Registerer),
		poll:    opts.Poll,
		paused:  pauses{initial: opts.BackoffInitial, max: opts.BackoffMax, lanes: map[lane]pause{}},
	}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Run sends until ctx ends. Then it lets the batch under way finish, within StopTimeout, gives back the leases, and
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
		case err != nil:
			if !down && ctx.Err() == nil {
				r.opts.Logger.WarnContext(ctx, "outbox: the database cannot be used; trying on", "error", err)
			}
			next = pace{wait: r.opts.Poll}
		case down:
			r.opts.Logger.InfoContext(ctx, "outbox: the database is back")
		}
		down = err != nil
		r.rest(ctx, next)
	}
	r.leave(ctx)
	return nil
}

// leave deletes what is still noted as sent, and gives back the leases.
func (r *Relay) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := r.removeSent(ctx)
	if err == nil {
		err = r.leases.release(ctx)
	}
	if err != nil {
		r.opts.Logger.WarnContext(ctx, "outbox: the leases could not be given back; they run out by themselves", "error", err)
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
		r.woken = true
	}
}

// round sends one batch. ctx ends what may be broken off, work what should be finished.
func (r *Relay) round(ctx, work context.Context) (pace, error) {
	if err := r.keep(work); err != nil {
		return pace{}, err
	}
	if r.leases.none() {
		return pace{wait: r.leases.every}, nil
	}
	select {
	case <-r.wake: // what it tells of is read now
		r.woken = true
	default:
	}
	b, err := r.next(ctx)
	announced := r.woken
	r.woken = false
	if err != nil {
		return pace{}, err
	}
	sent := 0
	if len(b.items) > 0 {
		errs, err := r.send(work, b.items)
		if err != nil {
			r.horizon.reset()
			return pace{}, err
		}
		sent = r.settle(ctx, &b, errs)
		if !announced {
			r.poll = quickPoll
		}
	}
	r.horizon.advance(b.end)
	for _, seq := range b.freed {
		r.horizon.from = min(r.horizon.from, seq)
	}
	if r.db.Dialect() == database.SQLite {
		if err := r.removeSent(work); err != nil {
			return pace{}, err
		}
	}
	switch {
	case len(b.items) > len(b.tries) && sent == 0:
		// The keys pause by themselves. This spares a broker that is away from being asked about every other key.
		return pace{wait: r.opts.BackoffInitial}, nil
	case b.more || len(b.freed) > 0:
		return pace{}, nil
	}
	most := r.opts.Poll
	if r.leases.shared {
		most = min(most, sharedPoll)
	}
	rest := r.paused.until(r.opts.Now(), min(r.poll, most, r.leases.every))
	r.poll = min(2*r.poll, most)
	if len(r.sent) > 0 {
		rest = min(rest, sentRest)
	}
	return pace{wait: rest, wakeable: true}, nil
}

// keep sees to the leases and the horizon. It is not broken off by the end of Run's context: leases taken without
// knowing it would not be given back.
func (r *Relay) keep(work context.Context) error {
	ctx, cancel := context.WithTimeout(work, dbTimeout)
	defer cancel()
	if r.leases.due() {
		// First, because what is given back to other relays they would send again.
		if err := r.removeSent(work); err != nil {
			return err
		}
		if err := r.leases.keep(ctx); err != nil {
			return err
		}
	}
	if r.leases.moved() {
		// What is known of lanes and rows is of other shards.
		clear(r.paused.lanes)
		r.horizon.reset()
	}
	if r.horizon.from == 0 || r.settled != r.leases.looked {
		r.settled = r.leases.looked
		return r.horizon.settle(ctx, r.db)
	}
	return nil
}
