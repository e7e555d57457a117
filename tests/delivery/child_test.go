package delivery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/parking"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// roleVariable holds a process as JSON, for a test binary that is started as one.
const roleVariable = "DELIVERY_PROCESS"

// process is a process with a database that can be killed. Its zero fault is none.
type process struct {
	// Plays is "consumer", "parking" (a consumer that parks what fails, and whose keys wait for their dead letters), "batch" (one
	// that has many messages at a time), "relay" or "transformer".
	Plays     string
	Guarantee kafka.Guarantee
	// Topic is read, or published to by a relay; Out is written by a transformer.
	Topic, Out string
	// Group has static members by the name of Instance, or dynamic ones without it.
	Group, Instance string
	// Database is a URL. Note is a file in which a process that is suspended says so.
	Database, Note string
	Fault          string
}

// newProcess returns a process with a database, topics and a group of its own.
func newProcess(t *testing.T, plays string, g kafka.Guarantee) process {
	t.Helper()
	p := process{
		Plays: plays, Guarantee: g, Topic: broker.Name(), Out: broker.Name(), Group: broker.Name(), Instance: broker.Name(),
		Database: "sqlite:" + filepath.Join(t.TempDir(), "effects.db"), Note: filepath.Join(t.TempDir(), "note"),
	}
	broker.Topics(t, cluster, p.Topic, p.Out, deadletter.RedriveTopic(p.Group), deadletter.Topic(p.Group))
	require.NoError(t, p.migrate(t.Context()))
	return p
}

var tables = map[string]fs.FS{
	"outbox": outbox.Migrations, "inbox": inbox.Migrations, "dead_letters": deadletter.Migrations, "parked": parking.Migrations,
	"effects": fstest.MapFS{"0001_effects.sql": {Data: []byte("-- +goose Up\nCREATE TABLE effects (value text NOT NULL);\n")}},
}

func (p process) migrate(ctx context.Context) (err error) {
	db, err := database.Open(ctx, p.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for name, files := range tables {
		if err := db.Migrate(ctx, name, files); err != nil {
			return err
		}
	}
	return nil
}

// effects counts how often each value took effect, as committed.
func (p process) effects(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	p.query(t, "SELECT value, count(*) FROM effects GROUP BY value", func(scan func(...any) error) {
		var value string
		var n int
		require.NoError(t, scan(&value, &n))
		counts[value] = n
	})
	return counts
}

// unsent counts the rows of the outbox.
func (p process) unsent(t *testing.T) (n int) {
	t.Helper()
	p.query(t, "SELECT count(*) FROM outbox", func(scan func(...any) error) { require.NoError(t, scan(&n)) })
	return n
}

func (p process) query(t *testing.T, query string, row func(scan func(...any) error)) {
	t.Helper()
	db, err := database.Open(t.Context(), p.Database)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		row(rows.Scan)
	}
	require.NoError(t, rows.Err())
}

// start starts p with a fault. It is killed at the end of the test, or by stop.
func (p process) start(t *testing.T, fault string) *running {
	t.Helper()
	p.Fault = fault
	spec, err := json.Marshal(p)
	require.NoError(t, err)
	r := &running{cmd: exec.Command(os.Args[0])}
	r.cmd.Env = append(os.Environ(), roleVariable+"="+string(spec))
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	require.NoError(t, r.cmd.Start())
	r.wait = sync.OnceValue(r.cmd.Wait)
	t.Cleanup(func() {
		if t.Failed() { // let it say where it is
			_ = r.cmd.Process.Signal(syscall.SIGCONT)
			_ = r.cmd.Process.Signal(syscall.SIGQUIT)
			within(t, "it says where it is", func() { _ = r.wait() })
		}
		r.stop()
		if t.Failed() {
			t.Logf("%s with fault %q:\n%s", p.Plays, fault, r.output.String())
		}
	})
	return r
}

// dies starts p with a fault and waits until p has killed itself at it.
func (p process) dies(t *testing.T, fault string) {
	t.Helper()
	r := p.start(t, fault)
	within(t, p.Plays+" dies at "+fault, func() { _ = r.wait() })
	status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "it ended otherwise: %s\n%s", r.cmd.ProcessState, r.output.String())
}

type running struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	wait   func() error
}

// stop kills the process, if it still runs.
func (r *running) stop() {
	_ = r.cmd.Process.Kill()
	_ = r.wait()
}

// play is the life of a process.
func play(spec string) int {
	var p process
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	topic = p.Topic
	// Should the test be gone, nobody kills it.
	ctx, cancel := context.WithTimeout(context.Background(), 3*broker.Patience)
	defer cancel()
	var err error
	switch p.Plays {
	case "consumer", "parking", "batch":
		err = p.consume(ctx)
	case "relay":
		err = p.relay(ctx)
	case "transformer":
		err = p.transform(ctx)
	default:
		err = fmt.Errorf("no such role: %q", p.Plays)
	}
	fmt.Fprintln(os.Stderr, p.Plays, "ended:", err)
	return 1
}

// topic is that of happened, whose methods have nowhere else to take it from.
var topic string

// happened is the event that all is about.
type happened struct {
	Value string `json:"value"`
}

func (happened) EventType() string  { return "test.happened" }
func (happened) EventTopic() string { return topic }

// happenedOn is an event for topic.
func happenedOn(topic, value string) event.Addressed {
	e, err := event.NewFactory("/tests").New(context.Background(), "test.happened", "key", happened{value})
	if err != nil {
		panic(err)
	}
	return event.Addressed{Topic: topic, Event: e}
}

// note says in p.Note how far p has come.
func (p process) note(text string) {
	if err := os.WriteFile(p.Note, []byte(text), 0o600); err != nil {
		panic(err)
	}
}

// noted tells whether it has.
func (p process) noted(text string) func() bool {
	return func() bool {
		found, err := os.ReadFile(p.Note)
		return err == nil && string(found) == text
	}
}

// dial is the child's way to the broker, with its fault on it.
func (p process) dial() func(network, address string) (net.Conn, error) {
	faults := map[string]func(int16) verdict{
		"answer to the offset lost":     once(offsetCommit, lose),
		"before sending":                once(produce, die),
		"answer to the send lost":       once(produce, lose),
		"before the transaction's note": once(addOffsets, die),
		"before the transaction's end":  once(endTxn, die),
		"after the transaction's end":   once(endTxn, dieAfter),
		"answer to the end lost":        once(endTxn, lose),
		"suspended before the note":     once(addOffsets, suspend),
	}
	if judge := faults[p.Fault]; judge != nil {
		return wire(judge, p.note)
	}
	return nil
}

type parts struct {
	db     *database.DB
	events event.Factory
	outbox *outbox.Outbox
	kafka  kafka.Config
	sender *kafka.Publisher
}

func (p process) parts(ctx context.Context) (parts, error) {
	a := parts{events: event.NewFactory("/tests"), kafka: cluster}
	a.kafka.Dial = p.dial()
	var err error
	if a.db, err = database.Open(ctx, p.Database); err != nil {
		return a, err
	}
	a.outbox = outbox.New(a.db, a.events, outbox.Options{Validate: func(event.Event) error { return nil }, Logger: slog.Default()})
	a.sender, err = kafka.NewPublisher(kafka.PublisherConfig{Config: a.kafka}, slog.Default())
	return a, err
}

// consume is a service's consumer, whose handler notes the value in the database.
func (p process) consume(ctx context.Context) error {
	a, err := p.parts(ctx)
	if err != nil {
		return err
	}
	parks := &dyingParking{Store: parking.New(a.db, p.Group, a.events.Now, deadletter.RedriveTopic(p.Group)), dies: p.Fault == "after parking"}
	var options []consumer.Option
	settings := kafka.SubscriberConfig{Config: a.kafka, Group: p.Group, Guarantee: p.Guarantee, MaxInFlight: 1, InstanceID: p.Instance}
	if p.Plays == "parking" {
		options = append(options, consumer.Blocks)
		settings.Parking, settings.ParkAfter = parks, time.Nanosecond
		go parks.Run(ctx, slog.Default())
	}
	registry := prometheus.NewRegistry()
	inBatch := func(context.Context, *outbox.Tx) error { return nil }
	if p.Plays == "batch" {
		settings.MaxInFlight = batched
		if p.Fault == "in a batch" {
			inBatch = p.inBatch(registry)
		}
	}
	var mu sync.Mutex
	tries := map[string]int{}
	c, err := consumer.New(
		consumer.Config{MaxAttempts: 3, BackoffInitial: time.Millisecond, BackoffMax: time.Millisecond, BatchMax: 256},
		consumer.Deps{
			Group: p.Group, Guarantee: p.Guarantee, DB: a.db, Outbox: a.outbox,
			DeadLetters: deadletter.NewStore(a.db, a.sender, a.events.Now), Sender: dying{a.sender, p.Fault == "after the dead letter"}, Parking: parks,
			Validate: func(string, []byte) error { return nil },
			Logger:   slog.Default(), Registry: registry, Now: a.events.Now,
		})
	if err != nil {
		return err
	}
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, body happened) error {
		mu.Lock()
		tries[body.Value]++
		again := tries[body.Value] > 1
		mu.Unlock()
		switch {
		case p.Fault == "before handling", p.Fault == "before handling the next" && body.Value == "next":
			kill()
		case body.Value == "m" && (p.Fault == "it never works" || p.Fault == "after the dead letter" || p.Fault == "after parking"),
			body.Value == "m" && !again && (p.Fault == "the handler fails once" || p.Fault == "after handling what was parked"):
			return errors.New("it does")
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO effects (value) VALUES ($1)", body.Value); err != nil {
			return err
		}
		switch p.Fault {
		case "while handling":
			kill()
		case "after handling", "after handling what was parked":
			tx.AfterCommit(kill)
		}
		return inBatch(ctx, tx)
	}, options...)
	settings.Topics = c.Topics()
	sub, err := kafka.NewSubscriber(settings, slog.Default())
	if err != nil {
		return err
	}
	return c.Run(ctx, sub)
}

// relay is a service that publishes the value "m" in the transaction of an effect, if there is none yet, and carries
// it to Kafka.
func (p process) relay(ctx context.Context) error {
	a, err := p.parts(ctx)
	if err != nil {
		return err
	}
	err = a.outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		var done int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM effects WHERE value = 'published'").Scan(&done); err != nil || done > 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO effects (value) VALUES ('published')"); err != nil {
			return err
		}
		_, err := tx.Publish(ctx, "key", happened{"m"})
		if p.Fault == "before the commit" {
			kill()
		}
		return err
	})
	if err != nil {
		return err
	}
	return a.outbox.Relay(dying{a.sender, p.Fault == "after sending"}, outbox.RelayOptions{}).Run(ctx)
}

// dying is a sender that kills the process when something is sent and nobody has noted it.
type dying struct {
	*kafka.Publisher
	dies bool
}

func (d dying) SendBatch(ctx context.Context, batch []event.Addressed) []error {
	errs := d.Publisher.SendBatch(ctx, batch)
	if d.dies && errors.Join(errs...) == nil {
		kill()
	}
	return errs
}

func (d dying) SendRecord(ctx context.Context, r kafka.Record) error {
	err := d.Publisher.SendRecord(ctx, r)
	if d.dies && err == nil {
		kill()
	}
	return err
}

// dyingParking kills the process when messages are parked, and their offsets are not committed.
type dyingParking struct {
	*parking.Store
	dies bool
}

func (d *dyingParking) Park(ctx context.Context, messages ...kafka.Parked) error {
	err := d.Store.Park(ctx, messages...)
	if d.dies && err == nil {
		kill()
	}
	return err
}

// transform copies Topic to Out.
func (p process) transform(ctx context.Context) error {
	cfg := cluster
	cfg.Dial = p.dial()
	tr, err := p.transformer(cfg, p.Fault)
	if err != nil {
		return err
	}
	return tr.Run(ctx)
}

func (p process) transformer(cfg kafka.Config, fault string) (*kafka.Transformer, error) {
	return kafka.NewTransformer(kafka.TransformerConfig{
		Config: cfg, Group: p.Group, Topics: []string{p.Topic}, InstanceID: p.Instance, SessionTimeout: 6 * time.Second,
		TransactionTimeout: transactionTimeout,
	}, func(_ context.Context, in []kafka.Record) (out []kafka.Record, err error) {
		if fault == "while transforming" {
			kill()
		}
		for _, r := range in {
			out = append(out, kafka.Record{Topic: p.Out, Key: r.Key, Value: r.Value})
		}
		return out, nil
	}, slog.Default())
}
