package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/tools/rivals/forwarder"
)

// What an outbox is given.
const (
	// drained is how many messages wait in it.
	drained = 10_000
	// trickleFor is for how long trickleRate messages a second come, evenly spaced.
	trickleFor  = 5 * time.Second
	trickleRate = 100
	// outboxTimeout is for all messages of either to be in Kafka.
	outboxTimeout = 3 * time.Minute
	partitions    = 6
	// filled are the sessions that fill an outbox side by side.
	filled = 8
)

// Outbox is an outbox at work.
type Outbox struct {
	// Outbox is "ours" or "watermill-sql".
	Outbox string `json:"outbox"`
	// Messages waited, and went to Kafka with PerSecond a second from the start of the relay to the last's arrival.
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"messages_per_s"`
	// CPUMicros is by component, a message.
	CPUMicros map[string]float64 `json:"cpu_us_per_message"`
	// Trickle is from commit to arrival at a consumer while a few messages a second come; TrickleCPUMicros has the
	// driver's commits and its consumer in it.
	Trickle          Latency            `json:"trickle"`
	TrickleCPUMicros map[string]float64 `json:"trickle_cpu_us_per_message"`
}

const nameWatermillSQL = "watermill-sql"

// carrier is an outbox with its relay.
type carrier interface {
	// Publish puts a message of some key into the outbox, in a transaction of its own.
	Publish(ctx context.Context, topic, key string, payload []byte) error
	// Run carries to Kafka until ctx ends.
	Run(ctx context.Context) error
	// Close disconnects, after Run.
	Close() error
}

// numbered is a message with a number.
type numbered struct {
	n     int
	topic string
}

func (b numbered) EventType() string  { return b.topic }
func (b numbered) EventTopic() string { return b.topic }

// numberAt is where the digits of a message's number are.
const numberAt, numberEnd = 6, 16

// MarshalJSON makes messageBytes of it, the number in front.
func (b numbered) MarshalJSON() ([]byte, error) {
	head := fmt.Sprintf(`{"n":"%010d","text":"`, b.n)
	return []byte(head + strings.Repeat("x", messageBytes-len(head)-2) + `"}`), nil
}

// ourOutbox is package outbox, with its defaults.
type ourOutbox struct {
	db        *database.DB
	box       *outbox.Outbox
	relay     *outbox.Relay
	publisher *kafka.Publisher
}

func newOurOutbox(ctx context.Context, url string, brokers []string) (carrier, error) {
	db, err := database.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "outbox", outbox.Migrations); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: servers{brokers: brokers}.kafka()}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	box := outbox.New(db, event.NewFactory("bench"), outbox.Options{})
	return &ourOutbox{db, box, box.Relay(publisher, outbox.RelayOptions{}), publisher}, nil
}

// body is a message that is JSON already.
type body struct {
	json.RawMessage
	topic string
}

func (b body) EventType() string  { return b.topic }
func (b body) EventTopic() string { return b.topic }

func (o *ourOutbox) Publish(ctx context.Context, topic, key string, payload []byte) error {
	return o.box.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		_, err := tx.Publish(ctx, key, body{payload, topic})
		return err
	})
}

func (o *ourOutbox) Run(ctx context.Context) error { return o.relay.Run(ctx) }

func (o *ourOutbox) Close() error { return errors.Join(o.publisher.Close(), o.db.Close()) }

func newForwarder(ctx context.Context, url string, brokers []string) (carrier, error) {
	return forwarder.New(ctx, url, brokers)
}

// measureOutboxes drains both outboxes, and then lets messages trickle in.
func measureOutboxes(ctx context.Context, s servers, messages int, trickle time.Duration, progress func(string, ...any)) (all []Outbox, err error) {
	meter, err := newMeter(ctx, s.brokers, "", s.running("kafka", "postgres"), driver)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, meter.close(context.WithoutCancel(ctx))) }()
	// Both run twice, the first time with a tenth, for Kafka's JVM to compile what they need.
	for _, round := range []struct {
		name  string
		share int
	}{{"warm", 10}, {"outbox", 1}} {
		all = nil
		for _, it := range []struct {
			name string
			open func(ctx context.Context, url string, brokers []string) (carrier, error)
		}{{nameWatermillSQL, newForwarder}, {nameOurs, newOurOutbox}} {
			waiting, d := messages/round.share, trickle/time.Duration(round.share)
			progress("%s outbox: %d messages that wait, then %d/s for %s", it.name, waiting, trickleRate, d)
			m := &outboxRun{
				servers: s, meter: meter, open: it.open, name: s.named(round.name, it.name),
				Outbox: Outbox{Outbox: it.name, Messages: waiting},
			}
			if err := m.measure(ctx, waiting, d); err != nil {
				return nil, fmt.Errorf("%s: %w", it.name, err)
			}
			all = append(all, m.Outbox)
		}
	}
	return all, nil
}

// outboxRun is one outbox being measured.
type outboxRun struct {
	Outbox
	servers servers
	meter   *meter
	open    func(ctx context.Context, url string, brokers []string) (carrier, error)
	// name is that of the database and the topic.
	name string
}

func (r *outboxRun) measure(ctx context.Context, messages int, trickle time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	database, err := r.servers.newDatabase(ctx, r.name)
	if err != nil {
		return err
	}
	if err := newTopic(ctx, r.servers, r.name, partitions); err != nil {
		return err
	}
	if err := r.fill(ctx, database, messages); err != nil {
		return err
	}
	few := int(trickle.Seconds() * trickleRate)
	seen := newArrivals(messages + few)
	consumer, err := follow(r.servers.brokers, []string{r.name}, seen.record)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.close()) }()
	relay, err := r.open(ctx, database, r.servers.brokers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, relay.Close()) }()
	before, err := r.meter.cpu()
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- relay.Run(run) }()
	defer func() {
		stop()
		err = errors.Join(err, <-stopped)
	}()
	last, err := seen.wait(ctx, messages)
	if err != nil {
		return err
	}
	after, err := r.meter.cpu()
	if err != nil {
		return err
	}
	r.PerSecond, r.CPUMicros = float64(messages)/last.Sub(start).Seconds(), perMessage(before, after, messages)

	commits, err := r.trickle(ctx, relay, messages, few)
	if err != nil {
		return err
	}
	if _, err := seen.wait(ctx, messages+few); err != nil {
		return err
	}
	before = after
	if after, err = r.meter.cpu(); err != nil {
		return err
	}
	r.TrickleCPUMicros = perMessage(before, after, few)
	r.Trickle = latencyOf(seen.since(messages, commits))
	return seen.wrong()
}

// key is that of a message, of a thousand.
func key(n int) string { return "key-" + strconv.Itoa(n%manyKeys) }

// fill commits one message a transaction, in sessions that need not wait for the disk: what is filled is not measured.
func (r *outboxRun) fill(ctx context.Context, database string, messages int) error {
	u, err := url.Parse(database)
	if err != nil {
		return errors.New("PostgreSQL's URL cannot be parsed") // it has a password
	}
	query := u.Query()
	query.Set("synchronous_commit", "off")
	u.RawQuery = query.Encode()
	box, err := r.open(ctx, u.String(), r.servers.brokers)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, filled)
	for i := range filled {
		wg.Go(func() {
			// A key's messages are all in one session: the order that they must keep.
			for n := range messages {
				if n%manyKeys%filled == i && errs[i] == nil {
					errs[i] = r.publish(ctx, box, n)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), box.Close())
}

func (r *outboxRun) publish(ctx context.Context, box carrier, n int) error {
	payload, err := numbered{n: n}.MarshalJSON()
	if err != nil {
		return err
	}
	return box.Publish(ctx, r.name, key(n), payload)
}

// trickle commits the messages at fixed instants and returns when each was committed.
func (r *outboxRun) trickle(ctx context.Context, box carrier, first, few int) ([]time.Time, error) {
	commits := make([]time.Time, few)
	start := time.Now()
	for i := range few {
		if !wait(ctx, time.Until(dueAt(start, trickleRate, i))) {
			return nil, ctx.Err()
		}
		if err := r.publish(ctx, box, first+i); err != nil {
			return nil, err
		}
		commits[i] = time.Now()
	}
	return commits, nil
}

// arrivals are when messages came to a consumer, by their numbers.
type arrivals struct {
	mu    sync.Mutex
	at    []time.Time
	count int
	last  time.Time
	// before is the number of the key's message before, plus one.
	before map[string]int
	bad    error
	// more gets a value when there is news.
	more chan struct{}
}

func newArrivals(n int) *arrivals {
	return &arrivals{at: make([]time.Time, n), before: map[string]int{}, more: make(chan struct{}, 1)}
}

func (a *arrivals) record(m *sarama.ConsumerMessage) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := -1, error(nil)
	if len(m.Value) >= numberEnd {
		n, err = strconv.Atoi(string(m.Value[numberAt:numberEnd]))
	}
	switch {
	case err != nil || n < 0 || n >= len(a.at):
		a.bad = fmt.Errorf("a record is not of this run: %.40s", m.Value)
	case !a.at[n].IsZero():
		a.bad = fmt.Errorf("message %d came twice", n)
	case a.before[string(m.Key)] > n:
		a.bad = fmt.Errorf("message %d of %s came after %d", n, m.Key, a.before[string(m.Key)]-1)
	default:
		a.at[n], a.last, a.before[string(m.Key)] = now, now, n+1
		a.count++
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// wait returns when n messages have come, with the instant of the last.
func (a *arrivals) wait(ctx context.Context, n int) (last time.Time, err error) {
	for {
		a.mu.Lock()
		count, last, bad := a.count, a.last, a.bad
		a.mu.Unlock()
		if bad != nil || count >= n {
			return last, bad
		}
		select {
		case <-a.more:
		case <-ctx.Done():
			return last, fmt.Errorf("%d of %d messages are in Kafka: %w", count, n, ctx.Err())
		}
	}
}

// since is how long after their commits messages came, the first of which has a number. One that came before its sender
// heard of the commit took no time.
func (a *arrivals) since(first int, commits []time.Time) []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	took := make([]time.Duration, len(commits))
	for i, commit := range commits {
		took[i] = max(0, a.at[first+i].Sub(commit))
	}
	return took
}

// wrong is what makes figures worthless.
func (a *arrivals) wrong() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bad
}
