package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// closeTimeout bounds how long a stop waits for the messages at hand; the service's own deadline is shorter or longer
// as it likes.
const closeTimeout = 20 * time.Second

// Config is what a team sets of a consumer.
type Config struct {
	// MaxAttempts is how often a transient error is tried before the message is dead-lettered.
	MaxAttempts int `env:"CONSUMER_MAX_ATTEMPTS" envDefault:"3" desc:"attempts at a message before it is dead-lettered, 1 to 100"`
	// BackoffInitial is the wait before the second attempt; each further wait is twice as long.
	BackoffInitial time.Duration `env:"CONSUMER_BACKOFF_INITIAL" envDefault:"200ms" desc:"wait before the second attempt, then doubled, 1ms to 1h"`
	// BackoffMax bounds one wait.
	BackoffMax time.Duration `env:"CONSUMER_BACKOFF_MAX" envDefault:"10s" desc:"longest wait between two attempts, at least CONSUMER_BACKOFF_INITIAL and at most 1h"`
	// BatchMax bounds how many messages that wait share one transaction. 1 gives each its own.
	BatchMax int `env:"CONSUMER_BATCH_MAX" envDefault:"256" desc:"most messages that share one transaction, of those that wait at that moment, 1 to 1024; 1 gives each its own"`
}

// maxBatch bounds BatchMax: what a failure undoes, and how long a transaction's locks are held.
const maxBatch = 1024

// Validate names every setting that is out of its range.
func (c Config) Validate() error {
	var errs []error
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		errs = append(errs, fmt.Errorf("CONSUMER_MAX_ATTEMPTS is %d, must be from 1 to 100", c.MaxAttempts))
	}
	if c.BackoffInitial < time.Millisecond || c.BackoffInitial > time.Hour {
		errs = append(errs, fmt.Errorf("CONSUMER_BACKOFF_INITIAL is %s, must be from 1ms to 1h", c.BackoffInitial))
	}
	if c.BackoffMax < c.BackoffInitial || c.BackoffMax > time.Hour {
		errs = append(errs, fmt.Errorf("CONSUMER_BACKOFF_MAX is %s, must be from CONSUMER_BACKOFF_INITIAL (%s) to 1h", c.BackoffMax, c.BackoffInitial))
	}
	if c.BatchMax < 1 || c.BatchMax > maxBatch {
		errs = append(errs, fmt.Errorf("CONSUMER_BATCH_MAX is %d, must be from 1 to %d", c.BatchMax, maxBatch))
	}
	return errors.Join(errs...)
}

// Deps is what a consumer works with.
type Deps struct {
	// Group is the consumer group: the name of inbox entries, dead letters and metrics.
	Group string
	// RedriveOnly leaves the topics of the handlers alone: the group gets what is put on its redrive topic.
	RedriveOnly bool
	// Guarantee is what becomes of a message when something fails; see the package documentation.
	Guarantee kafka.Guarantee
	// DB and Outbox belong to the same database.
	DB     *database.DB
	Outbox *outbox.Outbox
	// DeadLetters is told of redriven letters that have been handled.
	DeadLetters DeadLetters
	// Parking keeps messages whose key waits for their dead letter; the subscriber must have the same. It may be nil where no
	// handler Blocks.
	Parking Parking
	// Sender puts dead letters on their topic. A publisher that may lose them is refused.
	Sender deadletter.Sender
	// Validate checks a message's data against its type's schema.
	Validate func(typ string, data []byte) error
	// Key is the name under which logs carry the messages' key, "order_id" say.
	Key      string
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
	// Jitter returns a number in [0, 1); nil means random.
	Jitter func() float64
}

// DeadLetters is told when a letter that was redriven has been handled.
type DeadLetters interface {
	MarkRedriven(ctx context.Context, tx *database.Tx, id string) error
	// Settled tells whether a letter was redriven and handled, or discarded.
	Settled(ctx context.Context, id string) (bool, error)
}

// Parking is package parking's store.
type Parking interface {
	Park(ctx context.Context, messages ...kafka.Parked) error
	Block(ctx context.Context, r kafka.Record) error
}

// HandlerFunc is a message's effect. It may be called again for the same message if its transaction did not commit.
type HandlerFunc func(ctx context.Context, tx *outbox.Tx, e event.Event) error

// route is a handler, and what was said of it.
type route struct {
	call   callFunc
	blocks bool
}

// Option says of a handler what is not usual.
type Option func(*route)

// Blocks has the later messages of a key wait while a message that this handler gave up is a dead letter, until that has
// been redriven and handled, or discarded. It is for keys whose messages build on each other, such as a saga's: the later
// ones would be decided on a wrong state. Without it the key goes on.
func Blocks(r *route) { r.blocks = true }

// callFunc is what a handler does before the transaction; it returns the effect. mark is the message's name in the inbox.
type callFunc func(ctx context.Context, e event.Event, mark string) (HandlerFunc, error)

// guarantor is what package kafka's publisher and subscriber are.
type guarantor interface{ Guarantee() kafka.Guarantee }

// Consumer runs the handlers of one consumer group.
type Consumer struct {
	cfg      Config
	deps     Deps
	handlers map[address]route
	topics   []string
	metrics  *metrics
	batcher  batcher
	known    *coalesce.Group[string, bool] // whether a mark is in the inbox
	prepare  func(ctx context.Context, tx *outbox.Tx, batch []event.Event) error
	running  atomic.Bool
	// waiting counts the messages that wait for infrastructure to come back.
	waiting atomic.Int64
}

// address is where a handler listens.
type address struct{ topic, typ string }

// New returns a consumer without handlers; add them with On and OnCall, then Run it.
func New(cfg Config, deps Deps) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.Guarantee.Validate(); err != nil {
		return nil, fmt.Errorf("consumer %s: %w", deps.Group, err)
	}
	if s, ok := deps.Sender.(guarantor); ok && s.Guarantee() == kafka.AtMostOnce {
		return nil, fmt.Errorf("consumer %s: the publisher of dead letters is %s, must be %s or %s, or letters are lost",
			deps.Group, s.Guarantee(), kafka.EffectivelyOnce, kafka.AtLeastOnce)
	}
	if deps.Jitter == nil {
		deps.Jitter = rand.Float64
	}
	c := &Consumer{cfg: cfg, deps: deps, handlers: map[address]route{}, batcher: batcher{limit: cfg.BatchMax}}
	c.known = coalesce.Lookup(func(ctx context.Context, marks []string) (map[string]bool, error) {
		return inbox.Seen(ctx, deps.DB, deps.Group, marks...)
	})
	var err error
	c.metrics, err = newMetrics(deps.Registry, deps.Group, c.batcher.length)
	return c, err
}

// On handles messages of type T: the effect of each and what it publishes commit in one transaction.
func On[T event.Body](c *Consumer, h func(ctx context.Context, tx *outbox.Tx, e event.Event, body T) error, options ...Option) {
	var zero T
	c.add(zero, options, func(context.Context, event.Event, string) (HandlerFunc, error) {
		return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
			body, err := decode[T](e)
			if err != nil {
				return err
			}
			return h(ctx, tx, e, body)
		}, nil
	})
}

// OnCall handles messages of type T that need the outside: call talks to it, before the transaction and at least once,
// so it must be keyed by the message to be done once; the handler that it returns is the effect. Call is not made for
// a message that has been handled, as far as an inbox tells.
func OnCall[T event.Body](c *Consumer, call func(ctx context.Context, e event.Event, body T) (HandlerFunc, error), options ...Option) {
	var zero T
	c.add(zero, options, func(ctx context.Context, e event.Event, mark string) (HandlerFunc, error) {
		seen, err := c.seen(ctx, mark)
		if err != nil || seen {
			return nil, err
		}
		body, err := decode[T](e)
		if err != nil {
			return nil, err
		}
		effect, err := call(ctx, e, body)
		return effect, failpoint.After(err, failpoint.CallAnswered)
	})
}

// Prepare has fn called at the begin of a transaction, to read for all messages that share it what their handlers are
// going to ask for (database.Table). It is not called for every transaction: handlers must not need it. When one of the
// messages fails, all is done again without fn.
func (c *Consumer) Prepare(fn func(ctx context.Context, tx *outbox.Tx, batch []event.Event) error) {
	c.prepare = fn
}

// add panics on a second handler for one type: that is a mistake in the wiring, and every start shows it.
func (c *Consumer) add(body event.Body, options []Option, f callFunc) {
	at := address{body.EventTopic(), body.EventType()}
	if _, taken := c.handlers[at]; taken {
		panic(fmt.Sprintf("consumer %s: two handlers for %s on %s", c.deps.Group, at.typ, at.topic))
	}
	r := route{call: f}
	for _, option := range options {
		option(&r)
	}
	if r.blocks && (c.deps.Parking == nil || c.deps.Guarantee == kafka.AtMostOnce) {
		panic(fmt.Sprintf("consumer %s: the handler for %s on %s blocks, for which there must be a Parking, and a guarantee that is not %s",
			c.deps.Group, at.typ, at.topic, kafka.AtMostOnce))
	}
	c.handlers[at] = r
	if !slices.Contains(c.topics, at.topic) {
		c.topics = append(c.topics, at.topic)
	}
}

// Run consumes from sub until ctx ends, then lets the messages at hand finish. It closes sub and returns nil after a
// clean stop. For the order guarantees sub must be package kafka's subscriber, declared with Topics and Guarantee.
func (c *Consumer) Run(ctx context.Context, sub message.Subscriber) error {
	// Any subscriber repeats what was not acknowledged, which is all that the others ask of it.
	s, ok := sub.(guarantor)
	if ok && s.Guarantee() != c.deps.Guarantee || !ok && c.deps.Guarantee == kafka.AtMostOnce {
		says := fmt.Sprintf("a %T", sub)
		if ok {
			says = s.Guarantee().String()
		}
		return fmt.Errorf("consumer %s is %s, its subscriber is %s: they must be the same", c.deps.Group, c.deps.Guarantee, says)
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, observe.WatermillLogger(c.deps.Logger))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", c.deps.Group, err)
	}
	// The first is the outermost.
	router.AddMiddleware(c.observe, c.deadLetter, c.retry, c.recover)
	for _, topic := range c.Topics() {
		router.AddConsumerHandler(topic, topic, sub, c.handle)
	}
	ended := make(chan struct{})
	defer close(ended)
	stopped := context.AfterFunc(ctx, func() {
		c.running.Store(false)
		// Closed while it starts, the router would wait for handlers that wait for it, until its timeout.
		select {
		case <-router.Running():
		case <-ended:
			return
		}
		if err := router.Close(); err != nil {
			c.deps.Logger.WarnContext(ctx, "messages were still at hand when the consumer stopped; they come again", "group", c.deps.Group, "error", err)
		}
	})
	defer stopped()
	go func() {
		select {
		case <-router.Running():
			c.running.Store(ctx.Err() == nil)
		case <-ended: // without having run
		}
	}()
	// The router gets a context that does not end with ctx: its end would cut off the handlers at work.
	err = router.Run(context.WithoutCancel(ctx))
	// The router closes sub in the background and does not wait: offsets could still be on their way when the process
	// ends. A second Close waits.
	if closeErr := sub.Close(); closeErr != nil {
		c.deps.Logger.WarnContext(ctx, "the subscriber did not close cleanly", "group", c.deps.Group, "error", closeErr)
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", c.deps.Group, err)
	}
	if ctx.Err() == nil {
		return fault.Unavailablef("consumer %s: the router stopped by itself", c.deps.Group)
	}
	return nil
}

// Guarantee is that of Deps, for the subscriber to be made with.
func (c *Consumer) Guarantee() kafka.Guarantee { return c.deps.Guarantee }

// Topics returns the topics that are consumed, the redrive topic included, for the subscriber to declare.
func (c *Consumer) Topics() []string {
	redrive := deadletter.RedriveTopic(c.deps.Group)
	if c.deps.RedriveOnly {
		return []string{redrive}
	}
	return append(slices.Clone(c.topics), redrive)
}

// Ready returns nil while messages are being handled, and otherwise why not.
func (c *Consumer) Ready() error {
	if !c.running.Load() {
		return fmt.Errorf("consumer %s: the router is not running", c.deps.Group)
	}
	if n := c.waiting.Load(); n > 0 {
		return fmt.Errorf("consumer %s: %d messages wait for infrastructure that is away", c.deps.Group, n)
	}
	return nil
}
