package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
)

// Waits between two attempts while infrastructure is away.
const (
	awayInitial = 250 * time.Millisecond
	awayMax     = 10 * time.Second
)

// recover turns a handler's panic into a transient error: the next attempt may meet other data, and the message ends
// in the dead letters if it does not.
func (c *Consumer) recover(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (_ []*message.Message, err error) {
		defer func() {
			if r := recover(); r != nil {
				c.deps.Logger.ErrorContext(msg.Context(), "handler panicked", "panic", r, "stack", string(debug.Stack()))
				err = fault.Transientf("handler panicked: %v", r)
			}
		}()
		return next(msg)
	}
}

// gaveUp is the error of the last attempt.
type gaveUp struct {
	error
	retries int
}

func (g gaveUp) Unwrap() error { return g.error }

// retry tries again what may work later. Only transient errors use up attempts: while infrastructure is away nothing
// is learnt about the message (invariant 8). A message whose wait would be in the way of others is acknowledged, because
// its subscriber has parked it, and comes again with the attempts that it had.
func (c *Consumer) retry(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		delivery := kafka.DeliveryOf(ctx)
		backoff, away := c.cfg.BackoffInitial, awayInitial
		absence := absence{count: &c.waiting}
		defer absence.note(false)
		for range delivery.Attempts() {
			msg.SetContext(withoutOthers(ctx))
			backoff = min(2*backoff, c.cfg.BackoffMax)
		}
		for attempt := 1 + delivery.Attempts(); ; {
			_, err := next(msg)
			absence.note(fault.KindOf(err) == fault.Unavailable)
			if err == nil {
				return nil, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			// Whoever failed once does not make others repeat what they did.
			msg.SetContext(withoutOthers(ctx))
			if c.deps.Guarantee == kafka.AtMostOnce {
				return nil, gaveUp{err, 0} // it may have taken effect
			}
			var wait time.Duration
			switch fault.KindOf(err) {
			case fault.Permanent:
				return nil, gaveUp{err, attempt - 1}
			case fault.Unavailable:
				c.deps.Logger.WarnContext(ctx, "infrastructure is away, the message waits", "wait", away, "error", err)
				if err := waitAway(ctx, c.jitter(away)); err != nil {
					return nil, err
				}
				away = min(2*away, awayMax)
				continue
			default:
				if attempt >= c.cfg.MaxAttempts {
					return nil, gaveUp{err, attempt - 1}
				}
				wait = c.jitter(backoff)
				backoff = min(2*backoff, c.cfg.BackoffMax)
			}
			c.deps.Logger.InfoContext(ctx, "message is tried again", "attempt", attempt, "wait", wait, "error", err)
			c.metrics.retries.Inc()
			if parked, err := delivery.Wait(ctx, wait, attempt); parked || err != nil {
				return nil, err
			}
			attempt++
		}
	}
}

// jitter spreads a wait over its upper half, so that messages that failed together do not come back together.
func (c *Consumer) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(c.deps.Jitter()*float64(d/2))
}

// persist does what needs infrastructure, again until it is done. A message that waits for it counts in Ready. It fails when
// ctx ends, or the message's partition is given up.
func (c *Consumer) persist(ctx context.Context, what string, do func() error) error {
	absence := absence{count: &c.waiting}
	defer absence.note(false)
	for away := awayInitial; ; away = min(2*away, awayMax) {
		err := do()
		if err == nil {
			return nil
		}
		absence.note(true)
		c.deps.Logger.WarnContext(ctx, what+", the message waits", "group", c.deps.Group, "wait", away, "error", err)
		if err := waitAway(ctx, c.jitter(away)); err != nil {
			return err
		}
	}
}

// absence counts a message in Ready from an attempt that finds infrastructure away to one that does not. The attempts in
// between count too: they may take longer than the waits, when what is away lets them run into their timeouts.
type absence struct {
	count   *atomic.Int64
	noticed bool
}

func (a *absence) note(away bool) {
	switch {
	case away && !a.noticed:
		a.count.Add(1)
	case !away && a.noticed:
		a.count.Add(-1)
	}
	a.noticed = away
}

// waitAway waits for d, or until the message's partition is given up.
func waitAway(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-kafka.DeliveryOf(ctx).Stopping():
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deadLetter writes what was given up to the group's dead-letter topic, and only then lets it be acknowledged. Where the
// key is to wait for it, the message stands in the parking before, and is marked as blocked afterwards: whenever the
// process is killed, either the key waits behind a message that will be tried again, or there is a letter to end it.
func (c *Consumer) deadLetter(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		_, err := next(msg)
		var g gaveUp
		if !errors.As(err, &g) {
			return nil, err
		}
		ctx := msg.Context()
		record, ok := kafka.RecordOf(msg)
		if !ok {
			record = kafka.Record{Topic: "unknown", Value: msg.Payload, Headers: msg.Metadata}
		}
		f := deadletter.Failure{
			Group: c.deps.Group, ErrorType: errorType(g), Err: g.error, Retries: g.retries, At: c.deps.Now(),
		}
		letter := deadletter.New(record, f)
		blocks, err := c.parkBlocking(ctx, record, letter, g.retries+1)
		if err != nil {
			return nil, err
		}
		err = c.persist(ctx, "a dead letter cannot be written", func() error {
			err := c.deps.Sender.SendRecord(ctx, letter)
			if fault.KindOf(err) == fault.Permanent && letter.Headers[deadletter.HeaderOmitted] == "" {
				// Too large, and so it will be however often it is sent. A record must not stop its partition (invariant 7).
				c.deps.Logger.ErrorContext(ctx, "dead letter cannot be written whole, only where its record stands is kept", "topic", letter.Topic, "error", err)
				letter = deadletter.Shortened(letter)
				err = c.deps.Sender.SendRecord(ctx, letter)
			}
			return failpoint.After(err, failpoint.LetterSent)
		})
		if err == nil && blocks {
			err = c.persist(ctx, "a key cannot be blocked", func() error { return c.deps.Parking.Block(ctx, record) })
			kafka.DeliveryOf(ctx).Block()
		}
		if err != nil {
			return nil, err
		}
		span := trace.SpanFromContext(ctx)
		span.SetStatus(codes.Error, g.Error())
		span.SetAttributes(attribute.String("error.type", f.ErrorType))
		c.metrics.deadLetters.WithLabelValues(f.ErrorType).Inc()
		c.deps.Logger.ErrorContext(ctx, "message is dead-lettered", "dead_letter", deadletter.ID(letter.Headers),
			"error_type", f.ErrorType, "retries", f.Retries, "key_waits", blocks, "error", g.error)
		return nil, nil
	}
}

// parkBlocking parks a message that is about to become a dead letter for which its key is to wait. A letter that was
// settled before its message came again, after a crash, could let go of nothing any more. What was redriven keeps nobody
// waiting but the letter's own place.
func (c *Consumer) parkBlocking(ctx context.Context, r kafka.Record, letter kafka.Record, attempts int) (blocks bool, err error) {
	delivery := kafka.DeliveryOf(ctx)
	if delivery == nil || !c.handlers[address{r.Topic, r.Headers[event.HeaderType]}].blocks {
		return false, nil
	}
	for {
		full := false
		err := c.persist(ctx, "a message for which its key has to wait cannot be parked", func() error {
			settled, err := c.deps.DeadLetters.Settled(ctx, deadletter.ID(letter.Headers))
			if err != nil || settled {
				return err
			}
			if full = !delivery.Room(); full {
				return nil
			}
			blocks = true
			return c.deps.Parking.Park(ctx, kafka.Parked{Record: r, Attempts: attempts, Due: c.deps.Now()})
		})
		if err != nil || !full {
			return blocks, err
		}
		// Nothing is away: it is for an operator to make room, by the letters that are there.
		if err := delivery.AwaitRoom(ctx); err != nil {
			return false, err
		}
	}
}

func errorType(err error) string {
	if errors.As(err, new(undecodable)) {
		return deadletter.Undecodable
	}
	if fault.KindOf(err) == fault.Permanent {
		return fault.Permanent.String()
	}
	return fault.Transient.String() // at-most-once gives up also what could have waited
}

// observe is the outermost: a span, a log context, a duration.
func (c *Consumer) observe(next message.HandlerFunc) message.HandlerFunc {
	tracer := otel.Tracer("github.com/orderflow/orderflow/pkg/consumer")
	return func(msg *message.Message) ([]*message.Message, error) {
		start := time.Now()
		ctx, topic := msg.Context(), message.SubscribeTopicFromCtx(msg.Context())
		e := event.Event{ // as far as it can be read
			ID: msg.Metadata[event.HeaderID], Type: msg.Metadata[event.HeaderType], Key: msg.Metadata[event.HeaderKey],
			Traceparent: msg.Metadata[event.HeaderTraceparent], Tracestate: msg.Metadata[event.HeaderTracestate],
		}
		ctx, span := tracer.Start(e.TraceContext(ctx), "process "+topic, trace.WithSpanKind(trace.SpanKindConsumer))
		defer span.End()
		if span.IsRecording() {
			span.SetAttributes(c.attributes(msg, topic, e)...)
		}
		ctx = observe.With(ctx, c.deps.Key, e.Key, "message_id", e.ID, "message_type", e.Type)
		msg.SetContext(ctx)

		_, err := next(msg)
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
			span.SetAttributes(attribute.String("error.type", fault.KindOf(err).String()))
		}
		c.metrics.duration.WithLabelValues(topic).Observe(time.Since(start).Seconds())
		return nil, err
	}
}

func (c *Consumer) attributes(msg *message.Message, topic string, e event.Event) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", topic),
		attribute.String("messaging.consumer.group.name", c.deps.Group),
		attribute.String("messaging.message.id", e.ID),
	}
	if r, ok := kafka.RecordOf(msg); ok {
		attributes = append(attributes,
			attribute.String("messaging.destination.partition.id", fmt.Sprint(r.Partition)),
			attribute.Int64("messaging.kafka.offset", r.Offset))
	}
	return attributes
}

type metrics struct {
	duration    *prometheus.HistogramVec
	deadLetters *prometheus.CounterVec
	duplicates  prometheus.Counter
	retries     prometheus.Counter
	batchSize   prometheus.Histogram
	batchReruns *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, group string, waiting func() float64) (*metrics, error) {
	labels := prometheus.Labels{"group": group}
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "messaging_process_duration_seconds", ConstLabels: labels,
			Help:    "Time from delivery to acknowledgement, retries included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"topic"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "consumer_dead_letters_total", ConstLabels: labels, Help: "Messages given up, by type of error.",
		}, []string{"error_type"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "consumer_duplicates_total", ConstLabels: labels, Help: "Deliveries of a message that had been handled.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "consumer_retries_total", ConstLabels: labels, Help: "Attempts after the first.",
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "consumer_batch_size", ConstLabels: labels, Help: "Messages that a committed transaction took.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11), // to maxBatch
		}),
		batchReruns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "consumer_batch_reruns_total", ConstLabels: labels,
			Help: "Batches that were rolled back and done again: with a savepoint a message, or each message by itself.",
		}, []string{"with"}),
	}
	batchWaiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "consumer_batch_waiting", ConstLabels: labels, Help: "Messages that wait for the next transaction.",
	}, waiting)
	for _, collector := range []prometheus.Collector{batchWaiting, m.duration, m.deadLetters, m.duplicates, m.retries, m.batchSize, m.batchReruns} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("consumer metrics: %w", err)
		}
	}
	return m, nil
}
