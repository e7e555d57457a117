package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/observe"
)

const (
	// block is how long one read waits, and so how long a stop may take.
	block = 100 * time.Millisecond
	// Waits before a subscription that ended is begun again.
	restartInitial = 200 * time.Millisecond
	restartMax     = 3 * time.Second
	// resend is the wait before a message that was not acknowledged is delivered again.
	resend = time.Second
)

// Config says what one queue is.
type Config struct {
	// Stream and Group are the names in Redis.
	Stream, Group string
	// Instance is this process's name among the group's consumers; it must not be another's, nor that of the process
	// before it.
	Instance string
	// Workers is how many entries are worked at once.
	Workers int
	// Takeover is how long after its last sign of life a process's entries are taken over by others.
	Takeover time.Duration
}

// Queue is one stream and its consumer group.
type Queue struct {
	rdb    redis.UniversalClient
	cfg    Config
	logger *slog.Logger
	// library is where Watermill writes: at debug, because what it calls an error is said here, once, or is the end of
	// a subscription that was asked to end.
	library watermill.LoggerAdapter
	hand    *hand
	// running counts the workers that are subscribed.
	running atomic.Int64
	began   atomic.Int64
}

// New returns the queue in rdb, which stays the caller's.
func New(rdb redis.UniversalClient, cfg Config, logger *slog.Logger) *Queue {
	library := observe.WatermillLogger(slog.New(quiet{logger.Handler()}))
	return &Queue{rdb: rdb, cfg: cfg, logger: logger, library: library, hand: &hand{by: map[string]*leases{}}}
}

// Put adds an event to the queue. It may be there twice after an error.
func (q *Queue) Put(ctx context.Context, e event.Event) error {
	return q.PutAll(ctx, []event.Event{e})
}

// PutAll adds events to the queue, in one round trip, all or none. They may be there twice after an error.
func (q *Queue) PutAll(ctx context.Context, events []event.Event) error {
	pipe := q.rdb.TxPipeline()
	for _, e := range events {
		values, err := Codec{}.Marshal(q.cfg.Stream, e.Message())
		if err != nil {
			return fault.AsPermanent(fmt.Errorf("put %s on %s: %w", e.ID, q.cfg.Stream, err))
		}
		// No MAXLEN: it would drop entries that nobody has read.
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: q.cfg.Stream, Values: values})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fault.AsUnavailable(fmt.Errorf("put %d entries on %s: %w", len(events), q.cfg.Stream, err))
	}
	return nil
}

// Run gives every entry to handle until ctx ends, and waits for those at work. What handle returns an error for comes
// again; whatever it does must be safe to do twice.
func (q *Queue) Run(ctx context.Context, handle message.NoPublishHandlerFunc) error {
	var workers sync.WaitGroup
	for range q.cfg.Workers {
		workers.Go(func() {
			wait := restartInitial
			for ctx.Err() == nil {
				began := time.Now()
				err := q.work(ctx, handle)
				if ctx.Err() != nil {
					return
				}
				if time.Since(began) > restartMax {
					wait = restartInitial
				}
				q.logger.WarnContext(ctx, "a subscription ended and is begun again", "stream", q.cfg.Stream, "wait", wait, "error", err)
				pause(ctx, wait)
				wait = min(2*wait, restartMax)
			}
		})
	}
	workers.Wait()
	return nil
}

// work is one subscription with a name of its own: what its predecessor held and lost goes idle and is claimed.
func (q *Queue) work(ctx context.Context, handle message.NoPublishHandlerFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := &leases{
		UniversalClient: q.rdb, stream: q.cfg.Stream, group: q.cfg.Group, hand: q.hand,
		consumer: q.cfg.Instance + "-" + strconv.FormatInt(q.began.Add(1), 10),
	}
	defer func() { client.drop(client.held()...) }()
	sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: client, Unmarshaller: Codec{}, ConsumerGroup: q.cfg.Group, Consumer: client.consumer,
		NackResendSleep: resend, BlockTime: block, DisableIndefiniteInitialBlock: true,
		ClaimInterval: time.Second, MaxIdleTime: q.cfg.Takeover, ConsumerTimeout: 10 * time.Minute,
		ShouldStopOnReadErrors: func(err error) bool { return ctx.Err() != nil || lost(err) },
	}, q.library)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, q.library)
	if err != nil {
		return err
	}
	router.AddConsumerHandler(q.cfg.Stream, q.cfg.Stream, sub, handle)

	var keeping sync.WaitGroup
	keeping.Go(func() { client.keep(ctx, q.cfg.Takeover/5, q.logger) })
	defer keeping.Wait()
	defer cancel()
	go func() {
		select {
		case <-router.Running():
			q.running.Add(1)
			<-ctx.Done()
			q.running.Add(-1)
		case <-ctx.Done():
		}
	}()
	stop := context.AfterFunc(ctx, func() {
		if err := router.Close(); err != nil {
			q.logger.WarnContext(ctx, "an entry was still at hand; it comes again", "stream", q.cfg.Stream, "error", err)
		}
	})
	defer stop()
	// Not ctx: its end would cut off the handler at work.
	if err := router.Run(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(err, sub.Close())
	}
	if ctx.Err() == nil {
		return errors.New("the stream or its consumer group is gone")
	}
	return nil
}

// lost tells whether reading on is of no use: the group has to be made again, which Subscribe does.
func lost(err error) bool {
	return strings.Contains(err.Error(), "NOGROUP") || strings.HasPrefix(err.Error(), "UNBLOCKED") ||
		strings.HasPrefix(err.Error(), "WRONGTYPE")
}

// Ready returns nil while all workers are subscribed, and otherwise why not.
func (q *Queue) Ready() error {
	if n := q.running.Load(); n < int64(q.cfg.Workers) {
		return fmt.Errorf("queue %s: %d of %d workers are subscribed", q.cfg.Stream, n, q.cfg.Workers)
	}
	return nil
}

// Trim removes the entries that every group of the stream has acknowledged, and returns how many.
func (q *Queue) Trim(ctx context.Context) (int64, error) {
	groups, err := q.rdb.XInfoGroups(ctx, q.cfg.Stream).Result()
	if err != nil {
		if strings.Contains(err.Error(), "no such key") {
			return 0, nil
		}
		return 0, fmt.Errorf("trim %s: %w", q.cfg.Stream, err)
	}
	lowest := ""
	for _, g := range groups {
		// What was delivered is read before what is pending: an entry delivered in between is above the former and stays.
		pending, err := q.rdb.XPending(ctx, q.cfg.Stream, g.Name).Result()
		if err != nil {
			return 0, fmt.Errorf("trim %s: %w", q.cfg.Stream, err)
		}
		mark := g.LastDeliveredID
		if pending.Count > 0 && below(pending.Lower, mark) {
			mark = pending.Lower
		}
		if lowest == "" || below(mark, lowest) {
			lowest = mark
		}
	}
	if lowest == "" {
		return 0, nil
	}
	n, err := q.rdb.XTrimMinID(ctx, q.cfg.Stream, lowest).Result()
	if err != nil {
		return 0, fmt.Errorf("trim %s: %w", q.cfg.Stream, err)
	}
	return n, nil
}

// Idle tells whether every entry was acknowledged, so that work which is still outstanding is in the queue no more.
func (q *Queue) Idle(ctx context.Context) (bool, error) {
	groups, err := q.rdb.XInfoGroups(ctx, q.cfg.Stream).Result()
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", q.cfg.Stream, err)
	}
	for _, g := range groups {
		if g.Name != q.cfg.Group || g.Pending > 0 {
			continue
		}
		last, err := q.rdb.XRevRangeN(ctx, q.cfg.Stream, "+", "-", 1).Result()
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", q.cfg.Stream, err)
		}
		return len(last) == 0 || !below(g.LastDeliveredID, last[0].ID), nil
	}
	return false, nil
}

// below compares stream ids.
func below(a, b string) bool {
	parse := func(id string) (ms, seq uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		seq, _ = strconv.ParseUint(right, 10, 64)
		return ms, seq
	}
	aMS, aSeq := parse(a)
	bMS, bSeq := parse(b)
	return aMS < bMS || (aMS == bMS && aSeq < bSeq)
}

// quiet writes everything at debug.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
