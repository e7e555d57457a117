package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

const patience = time.Minute

type asked struct{}

func (asked) EventType() string  { return "work.ask" }
func (asked) EventTopic() string { return "work" }

// called is handled with a call to the outside.
type called struct{}

func (called) EventType() string  { return "work.call" }
func (called) EventTopic() string { return "work" }

type done struct{}

func (done) EventType() string  { return "work.done" }
func (done) EventTopic() string { return "done" }

var tables = map[string]fs.FS{
	"inbox": inbox.Migrations, "outbox": outbox.Migrations,
	"effects": fstest.MapFS{"0001_effects.sql": {Data: []byte(`-- +goose Up
CREATE TABLE effects (seq {{identity}}, key TEXT NOT NULL, id TEXT NOT NULL UNIQUE);`)}},
}

// bench is a consumer between a subscriber and a database that a test holds in its hands.
type bench struct {
	t         testing.TB
	guarantee kafka.Guarantee
	db        *database.DB
	registry  *prometheus.Registry
	work      chan *message.Message
	redrive   chan *message.Message
	closed    sync.Once
	stop      context.CancelFunc
	ended     chan error

	// decoded counts the messages that came as far as their call.
	decoded atomic.Int64

	mu      sync.Mutex
	sent    int64
	calls   map[string]int
	letters []kafka.Record
	// handle is called after each effect, in the transaction; its error is the handler's.
	handle func(ctx context.Context, tx *outbox.Tx, key string, call int) error
	gate   chan struct{}
	// prepare is called for what transactions read ahead.
	prepare func(ctx context.Context, tx *outbox.Tx, batch []event.Event) error
}

// Subscribe and Close make it a subscriber.

func (b *bench) Subscribe(_ context.Context, topic string) (<-chan *message.Message, error) {
	if topic != "work" {
		return b.redrive, nil
	}
	return b.work, nil
}

func (b *bench) Close() error {
	b.closed.Do(func() {
		close(b.work)
		close(b.redrive)
	})
	return nil
}

// Guarantee is the consumer's, which asks.
func (b *bench) Guarantee() kafka.Guarantee { return b.guarantee }

// letterbox is where dead letters go.
type letterbox struct{ of *bench }

func (l letterbox) SendRecord(_ context.Context, r kafka.Record) error {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	l.of.letters = append(l.of.letters, r)
	return nil
}

// newBench runs a consumer whose handler notes the message and publishes one.
func newBench(t testing.TB, url string, guarantee kafka.Guarantee) *bench {
	t.Helper()
	return newBenchOf(t, url, guarantee, 256)
}

func newBenchOf(t testing.TB, url string, guarantee kafka.Guarantee, batchMax int) *bench {
	t.Helper()
	b := &bench{
		t: t, guarantee: guarantee, db: databasetest.Open(t, url, tables), registry: prometheus.NewRegistry(), work: make(chan *message.Message), redrive: make(chan *message.Message),
		ended: make(chan error, 1), calls: map[string]int{}, gate: make(chan struct{}),
	}
	events := event.NewFactory("/bench")
	c, err := consumer.New(
		consumer.Config{MaxAttempts: 3, BackoffInitial: time.Millisecond, BackoffMax: time.Millisecond, BatchMax: batchMax},
		consumer.Deps{
			Group: "g", Guarantee: guarantee, DB: b.db, Outbox: outbox.New(b.db, events, outbox.Options{}), Sender: letterbox{b},
			Validate: func(string, []byte) error { b.decoded.Add(1); return nil }, Logger: slog.New(slog.DiscardHandler), Registry: b.registry, Now: time.Now,
		})
	require.NoError(t, err)
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, _ asked) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ($1, $2)`, e.Key, e.ID); err != nil {
			return err
		}
		if _, err := tx.Publish(ctx, e.Key, done{}); err != nil {
			return err
		}
		b.mu.Lock()
		b.calls[e.Key]++
		call, handle := b.calls[e.Key], b.handle
		b.mu.Unlock()
		if e.Key == "gate" {
			<-b.gate
			return nil
		}
		if handle == nil {
			return nil
		}
		return handle(ctx, tx, e.Key, call)
	})
	consumer.OnCall(c, func(_ context.Context, e event.Event, _ called) (consumer.HandlerFunc, error) {
		b.mu.Lock()
		b.calls["call "+e.Key]++
		b.mu.Unlock()
		return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
			_, err := tx.Publish(ctx, e.Key, done{})
			return err
		}, nil
	})
	c.Prepare(func(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
		b.mu.Lock()
		prepare := b.prepare
		b.mu.Unlock()
		if prepare == nil {
			return nil
		}
		return prepare(ctx, tx, batch)
	})
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { b.ended <- c.Run(ctx, b) }()
	t.Cleanup(func() {
		b.stop()
		select {
		case err := <-b.ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the consumer did not stop")
		}
	})
	return b
}

// send delivers a message.
func (b *bench) send(key, id string) *message.Message {
	b.t.Helper()
	return b.sendUnder(context.WithoutCancel(b.t.Context()), key, id)
}

func (b *bench) sendUnder(ctx context.Context, key, id string) *message.Message {
	b.t.Helper()
	return b.sendOf(ctx, asked{}, key, id)
}

func (b *bench) sendOf(ctx context.Context, body event.Body, key, id string) *message.Message {
	b.t.Helper()
	b.mu.Lock()
	b.sent++
	offset := b.sent
	b.mu.Unlock()
	e := event.Event{ID: id, Type: body.EventType(), Source: "/test", Key: key, Time: time.Now(), CorrelationID: key, Data: json.RawMessage(`{}`)}
	record := &sarama.ConsumerMessage{Topic: "work", Offset: offset, Key: []byte(key), Value: e.Data}
	for name, value := range e.Headers() {
		record.Headers = append(record.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	msg, err := kafka.Marshaler{}.Unmarshal(record)
	require.NoError(b.t, err)
	msg.SetContext(ctx)
	select {
	case b.work <- msg:
	case <-time.After(patience):
		require.FailNow(b.t, "nobody takes the message")
	}
	return msg
}

// batch sends n messages of keys 0, 1 and so on while a transaction is under way, which ends when all of them wait.
func (b *bench) batch(n int) []*message.Message {
	b.t.Helper()
	msgs := []*message.Message{b.closeGate()}
	for i := range n {
		msgs = append(msgs, b.send(fmt.Sprint(i), fmt.Sprint("id", i)))
	}
	b.openGate(n)
	return msgs
}

func (b *bench) closeGate() *message.Message {
	b.t.Helper()
	msg := b.send("gate", "gate")
	b.eventually(func() bool { return b.callsOf("gate") == 1 }, "the first transaction is under way")
	return msg
}

func (b *bench) openGate(waiting int) {
	b.t.Helper()
	b.eventually(func() bool { return b.metric("consumer_batch_waiting").GetGauge().GetValue() == float64(waiting) }, "all wait")
	close(b.gate)
}

func (b *bench) eventually(is func() bool, what string) {
	b.t.Helper()
	require.Eventually(b.t, is, patience, time.Millisecond, what)
}

func (b *bench) acked(msgs []*message.Message, except ...int) {
	b.t.Helper()
	left := map[int]bool{}
	for _, i := range except {
		left[i] = true
	}
	timeout := time.After(patience)
	for i, msg := range msgs {
		if left[i] {
			continue
		}
		select {
		case <-msg.Acked():
		case <-msg.Nacked():
			require.FailNow(b.t, "a message was not acknowledged", "%d", i)
		case <-timeout:
			require.FailNow(b.t, "a message is still at hand", "%d", i)
		}
	}
}

func (b *bench) callsOf(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[key]
}

func (b *bench) deadLetters() []kafka.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]kafka.Record(nil), b.letters...)
}

func (b *bench) metric(name string) *dto.Metric {
	b.t.Helper()
	families, err := b.registry.Gather()
	require.NoError(b.t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0]
		}
	}
	return &dto.Metric{}
}

// committed is how many transactions committed, and how many messages they took.
func (b *bench) committed() (transactions, messages int) {
	h := b.metric("consumer_batch_size").GetHistogram()
	return int(h.GetSampleCount()), int(h.GetSampleSum())
}

func (b *bench) count(query string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.db.QueryRowContext(b.t.Context(), query, args...).Scan(&n))
	return n
}

// tookEffect checks that n messages have their effect, their mark and what they published, once each.
func (b *bench) tookEffect(n int) {
	b.t.Helper()
	require.Equal(b.t, []int{n, n, n}, []int{
		b.count(`SELECT COUNT(*) FROM effects`), b.count(`SELECT COUNT(*) FROM inbox`), b.count(`SELECT COUNT(*) FROM outbox`),
	}, "effects, marks, messages")
}
