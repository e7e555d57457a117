package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/queue"
	"github.com/orderflow/orderflow/services/notification/internal/store"
)

const (
	// Name is the channel's in deliveries and totals.
	Name = "webhook"
	// Stream is the outbox topic of notifications on their way to the queue, and the queue's name in Redis.
	Stream = "notifications.channel.webhook"
	// Group is the queue's consumer group, to which the channel's dead letters belong.
	Group = "notification-webhook"
)

// Config says where the receiver is, and how often and how patiently it is tried.
type Config struct {
	URL string
	// Timeout bounds one attempt.
	Timeout time.Duration
	// Connections is how many there are at most.
	Connections int
	// Attempts is how often a notification is posted before it is a dead letter.
	Attempts int
	// BackoffInitial is the wait before the second attempt; each further one is twice as long, up to BackoffMax.
	BackoffInitial, BackoffMax time.Duration
}

// Deps is what the channel works with.
type Deps struct {
	DB          *database.DB
	DeadLetters *deadletter.Store
	Logger      *slog.Logger
	Registry    prometheus.Registerer
	Now         func() time.Time
}

// Channel works the entries of the queue.
type Channel struct {
	cfg      Config
	deps     Deps
	client   *http.Client
	attempts *prometheus.CounterVec
	done     *prometheus.CounterVec
}

// New returns the channel, with connections of its own; Close it.
func New(cfg Config, deps Deps) (*Channel, error) {
	labels := prometheus.Labels{"channel": Name}
	c := &Channel{
		cfg: cfg, deps: deps, client: newClient(cfg.Connections),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "notification_delivery_attempts_total", ConstLabels: labels, Help: "Attempts to deliver, by outcome.",
		}, []string{"outcome"}),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "notification_deliveries_total", ConstLabels: labels,
			Help: "Queue entries done with: delivered, failed, duplicate or undecodable.",
		}, []string{"outcome"}),
	}
	for _, collector := range []prometheus.Collector{c.attempts, c.done} {
		if err := deps.Registry.Register(collector); err != nil {
			return nil, fmt.Errorf("webhook metrics: %w", err)
		}
	}
	return c, nil
}

// Handle takes one entry as far as its delivery or its dead letter. An error means that the entry must come again.
func (c *Channel) Handle(msg *message.Message) error {
	stop := msg.Context()
	e := event.Event{
		ID: msg.Metadata[event.HeaderID], Key: msg.Metadata[event.HeaderKey],
		Traceparent: msg.Metadata[event.HeaderTraceparent], Tracestate: msg.Metadata[event.HeaderTracestate],
	}
	// An attempt under way is finished when the process stops; only the waiting ends.
	ctx, span := otel.Tracer("github.com/orderflow/orderflow/services/notification").Start(
		e.TraceContext(context.WithoutCancel(stop)), "process "+Stream, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "redis"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.destination.name", Stream),
			attribute.String("messaging.message.id", e.ID),
		))
	defer span.End()
	err := c.handle(ctx, stop, msg)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		c.deps.Logger.WarnContext(ctx, "a delivery comes again", "channel", Name, "error", err)
	}
	return err
}

func (c *Channel) handle(ctx, stop context.Context, msg *message.Message) error {
	n, err := decode(msg)
	if err != nil {
		c.done.WithLabelValues("undecodable").Inc()
		letter := c.letter(msg, Stream+"-"+msg.Metadata[queue.HeaderEntry], deadletter.Undecodable, err, 0)
		c.deps.Logger.ErrorContext(ctx, "an entry of the queue is no notification and is dead-lettered", "dead_letter", letter.ID, "error", err)
		return c.write(ctx, stop, func(ctx context.Context, tx *database.Tx) error {
			return c.deps.DeadLetters.Record(ctx, tx, letter)
		})
	}
	ctx = observe.With(ctx, "order_id", n.OrderID, "notification_id", n.ID, "channel", Name)
	letterID := Stream + "-" + n.ID
	redriven := isRedriven(msg)
	d, err := store.GetDelivery(ctx, c.deps.DB, Name, n.ID)
	if err != nil {
		return err
	}
	left := max(c.cfg.Attempts-d.Attempts, 1)
	switch {
	case d.State == store.Delivered && redriven:
		// Delivered on another way meanwhile: that is what the redrive wanted.
		return c.write(ctx, stop, func(ctx context.Context, tx *database.Tx) error {
			return c.deps.DeadLetters.MarkRedriven(ctx, tx, letterID)
		})
	case d.State == store.Delivered, d.State == store.Failed && !redriven:
		c.done.WithLabelValues("duplicate").Inc()
		return nil
	case redriven:
		left = c.cfg.Attempts
	}
	backoff, retries := c.cfg.BackoffInitial, 0
	for {
		d.Attempts++
		err := c.post(ctx, n.ID, msg.Payload)
		if err == nil {
			c.attempts.WithLabelValues("delivered").Inc()
			d.State, d.LastError = store.Delivered, ""
			c.done.WithLabelValues("delivered").Inc()
			return c.write(ctx, stop, func(ctx context.Context, tx *database.Tx) error {
				if redriven {
					if err := c.deps.DeadLetters.MarkRedriven(ctx, tx, letterID); err != nil {
						return err
					}
				}
				store.PutDelivery(tx, d, c.deps.Now())
				return nil
			})
		}
		c.attempts.WithLabelValues("failed").Inc()
		d.LastError = printable(err.Error())
		left--
		if left <= 0 || fault.KindOf(err) == fault.Permanent {
			d.State = store.Failed
			c.done.WithLabelValues("failed").Inc()
			letter := c.letter(msg, letterID, fault.KindOf(err).String(), err, retries)
			c.deps.Logger.ErrorContext(ctx, "a delivery is dead-lettered", "dead_letter", letterID, "attempts", d.Attempts, "error", err)
			return c.write(ctx, stop, func(ctx context.Context, tx *database.Tx) error {
				store.PutDelivery(tx, d, c.deps.Now())
				return c.deps.DeadLetters.Record(ctx, tx, letter)
			})
		}
		// Written down each time, so that a kill does not begin the count again.
		d.State = store.Waiting
		if err := c.write(ctx, stop, func(_ context.Context, tx *database.Tx) error {
			store.PutDelivery(tx, d, c.deps.Now())
			return nil
		}); err != nil {
			return err
		}
		c.deps.Logger.InfoContext(ctx, "a delivery is tried again", "attempt", d.Attempts, "wait", backoff, "error", err)
		if err := sleep(stop, jitter(backoff)); err != nil {
			return err
		}
		backoff = min(2*backoff, c.cfg.BackoffMax)
		retries++
	}
}

// write commits fn's effect. While the database is away it waits, because what is to be written has happened; when the
// process stops meanwhile, the entry comes again and the receiver sees the same id.
func (c *Channel) write(ctx, stop context.Context, fn func(ctx context.Context, tx *database.Tx) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := c.deps.DB.InTx(bounded, fn)
		cancel()
		if err == nil || fault.KindOf(err) == fault.Permanent {
			return err
		}
		c.deps.Logger.WarnContext(ctx, "an outcome cannot be written yet", "wait", wait, "error", err)
		if stopped := sleep(stop, wait); stopped != nil {
			return errors.Join(err, stopped)
		}
	}
}

func decode(msg *message.Message) (notificationapi.Notification, error) {
	var n notificationapi.Notification
	if wrong := msg.Metadata[queue.HeaderForeign]; wrong != "" {
		return n, fmt.Errorf("%s", wrong)
	}
	if err := json.Unmarshal(msg.Payload, &n); err != nil {
		return n, fmt.Errorf("the payload is no notification: %w", err)
	}
	if n.ID == "" || n.CustomerID == "" {
		return n, errors.New("the payload is no notification: id or customer_id is missing")
	}
	return n, nil
}

func isRedriven(msg *message.Message) bool { return msg.Metadata[deadletter.HeaderGroup] == Group }

// letter is the dead letter of an entry. A channel has no partitions: the identity is the notification's.
func (c *Channel) letter(msg *message.Message, id, kind string, err error, retries int) deadletter.Letter {
	headers := maps.Clone(map[string]string(msg.Metadata))
	delete(headers, queue.HeaderEntry)
	topic := Stream
	if isRedriven(msg) { // what its letter said of the place and the failures holds on
		topic = deadletter.RedriveTopic(Group)
	}
	record := kafka.Record{
		Topic: topic, Timestamp: c.deps.Now(), Key: []byte(headers[event.HeaderKey]), Value: msg.Payload, Headers: headers,
	}
	letter := deadletter.FromRecord(deadletter.New(record, deadletter.Failure{
		Group: Group, ErrorType: kind, Err: errors.New(printable(err.Error())), Retries: retries, At: c.deps.Now(),
	}), Group)
	letter.ID = id
	return letter
}

// jitter spreads a wait over its upper half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// printable bounds a text from outside and drops what PostgreSQL refuses.
func printable(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "")
	}
	return s
}
