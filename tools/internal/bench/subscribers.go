package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/rivals/subscriber"
)

// What a subscriber is given.
const (
	// consumeFor is how long a subscriber works about, if it handles as many messages a second as it could with nothing but
	// its handlers to wait for, and not more than fastest.
	consumeFor = 2 * time.Second
	fastest    = 30_000
	// consumeTimeout is for all messages of a cell.
	consumeTimeout = 2 * time.Minute
	manyKeys       = 1000
	// messageBytes is the size of a message's body.
	messageBytes = 700
	// ourSubscriber keeps so many messages of a partition with handlers: its default.
	ourInFlight = 256
	// fillBatch is how many messages are put into a topic at once.
	fillBatch = 1000
)

// Consumption is a subscriber at work: it reads what waits in a topic, in a group, and each handler waits for a while.
type Consumption struct {
	// Subscriber is "ours" or "watermill-kafka".
	Subscriber string `json:"subscriber"`
	Partitions int    `json:"partitions"`
	Keys       int    `json:"keys"`
	// HandlerMillis is how long a handler waits.
	HandlerMillis float64 `json:"handler_ms"`
	// Messages is how many were handled, PerSecond how many of them a second from the first's arrival to the last one's end.
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"messages_per_s"`
	// CPUMicros is by component, a message.
	CPUMicros map[string]float64 `json:"cpu_us_per_message"`
}

// The names of what is compared.
const (
	nameOurs           = "ours"
	nameWatermillKafka = "watermill-kafka"
)

// consumptions are all cells of the table, without figures.
func consumptions() (all []Consumption) {
	for _, partitions := range []int{1, 6} {
		for _, keys := range []int{1, manyKeys} {
			for _, millis := range []float64{0, 1, 10, 100} {
				for _, name := range []string{nameWatermillKafka, nameOurs} {
					all = append(all, Consumption{Subscriber: name, Partitions: partitions, Keys: keys, HandlerMillis: millis})
				}
			}
		}
	}
	return all
}

// handler is how long a handler waits.
func (c Consumption) handler() time.Duration {
	return time.Duration(c.HandlerMillis * float64(time.Millisecond))
}

// amount is how many messages take about d.
func (c Consumption) amount(d time.Duration) int {
	lanes := min(c.Keys, c.Partitions)
	if c.Subscriber == nameOurs {
		lanes = min(c.Keys, c.Partitions*ourInFlight)
	}
	rate := float64(fastest)
	if c.HandlerMillis > 0 {
		rate = min(rate, float64(lanes)/c.handler().Seconds())
	}
	return max(int(rate*d.Seconds()), 2*lanes)
}

// topic is where a cell's messages are, and no others: cells that want the same share it.
func (c Consumption) topic(s servers, d time.Duration) string {
	return s.named("consume", strconv.Itoa(c.Partitions), strconv.Itoa(c.Keys), strconv.Itoa(c.amount(d)))
}

// measureSubscribers fills the cells in.
func measureSubscribers(ctx context.Context, s servers, cells []Consumption, d time.Duration, progress func(string, ...any)) (_ []Consumption, err error) {
	progress("putting messages into topics")
	if err := fill(ctx, s, cells, d); err != nil {
		return nil, err
	}
	meter, err := newMeter(ctx, s.brokers, "", s.running("kafka"), driver)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, meter.close(context.WithoutCancel(ctx))) }()
	// The first cells run twice, the first time for Kafka's JVM to compile what all of them need.
	for i, c := range cells[:min(2, len(cells))] {
		progress("%s subscriber: a warm-up", c.Subscriber)
		if err := c.measure(ctx, s, meter, d, s.named("warm", strconv.Itoa(i))); err != nil {
			return nil, fmt.Errorf("warm-up of %s: %w", c.Subscriber, err)
		}
	}
	for i := range cells {
		c := &cells[i]
		progress("%s subscriber: %d partitions, %d keys, handlers of %g ms", c.Subscriber, c.Partitions, c.Keys, c.HandlerMillis)
		if err := c.measure(ctx, s, meter, d, s.named("group", strconv.Itoa(i))); err != nil {
			return nil, fmt.Errorf("%s, %d partitions, %d keys, %g ms: %w", c.Subscriber, c.Partitions, c.Keys, c.HandlerMillis, err)
		}
	}
	return cells, nil
}

// fill makes the topics with their messages.
func fill(ctx context.Context, s servers, cells []Consumption, d time.Duration) (err error) {
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: s.kafka()}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, publisher.Close()) }()
	factory := event.NewFactory("bench")
	full := map[string]bool{}
	for _, c := range cells {
		topic, n := c.topic(s, d), c.amount(d)
		if full[topic] {
			continue
		}
		full[topic] = true
		if err := newTopic(ctx, s, topic, c.Partitions); err != nil {
			return err
		}
		for i := 0; i < n; i += fillBatch {
			batch := make([]event.Addressed, 0, fillBatch)
			for j := i; j < min(n, i+fillBatch); j++ {
				e, err := factory.New(ctx, topic, "key-"+strconv.Itoa(j%c.Keys), numbered{n: j})
				if err != nil {
					return err
				}
				batch = append(batch, event.Addressed{Topic: topic, Event: e})
			}
			if err := put(ctx, publisher, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// put sends a batch to a topic that was just made: a broker may not have heard of it yet, and takes none of it then.
func put(ctx context.Context, publisher *kafka.Publisher, batch []event.Addressed) error {
	for try := 0; ; try++ {
		err := errors.Join(publisher.SendBatch(ctx, batch)...)
		if try == putTries || !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return err
		}
		select {
		case <-time.After(putAgain):
		case <-ctx.Done():
			return err
		}
	}
}

// How often a batch is put again into a topic that is not known yet, and how long after.
const (
	putTries = 100
	putAgain = 100 * time.Millisecond
)

func newTopic(ctx context.Context, s servers, name string, partitions int) error {
	admin, err := kafka.NewAdmin(s.kafka())
	if err != nil {
		return err
	}
	return errors.Join(admin.EnsureTopics(ctx, []kafka.Topic{{Name: name, Partitions: int32(partitions)}}), admin.Close())
}

func (s servers) kafka() kafka.Config {
	return kafka.Config{Brokers: s.brokers, ClientID: "orderflow-bench"}
}

func (c *Consumption) subscriber(s servers, topic, group string) (message.Subscriber, error) {
	if c.Subscriber == nameWatermillKafka {
		return subscriber.New(s.brokers, group)
	}
	return kafka.NewSubscriber(kafka.SubscriberConfig{
		Config: s.kafka(), Group: group, Topics: []string{topic}, Guarantee: kafka.AtLeastOnce, MaxInFlight: ourInFlight,
	}, slog.New(slog.DiscardHandler))
}

// measure has the subscriber handle messages below Watermill's router, and looks afterwards whether the group has stored
// that it did.
func (c *Consumption) measure(ctx context.Context, s servers, meter *meter, d time.Duration, group string) error {
	ctx, cancel := context.WithTimeout(ctx, consumeTimeout)
	defer cancel()
	topic := c.topic(s, d)
	sub, err := c.subscriber(s, topic, group)
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: stopTimeout}, watermill.NopLogger{})
	if err != nil {
		return errors.Join(err, sub.Close())
	}
	want := c.amount(d)
	var begun sync.Once
	var start, end time.Time
	var before map[string]time.Duration
	var failed error
	var handled atomic.Int64
	done := make(chan struct{})
	router.AddConsumerHandler("bench", topic, sub, func(m *message.Message) error {
		begun.Do(func() {
			before, failed = meter.cpu()
			start = time.Now()
		})
		wait(m.Context(), c.handler())
		if handled.Add(1) == int64(want) {
			end = time.Now()
			close(done)
		}
		return nil
	})
	running := make(chan error, 1)
	go func() { running <- router.Run(ctx) }()
	select {
	case <-done:
	case <-ctx.Done():
		failed = fmt.Errorf("%d of %d messages were handled: %w", handled.Load(), want, ctx.Err())
	case err := <-running:
		return errors.Join(errors.New("the router stopped"), err, sub.Close())
	}
	after, err := meter.cpu()
	// The router does not wait for a subscriber's last commit.
	if err := errors.Join(failed, err, router.Close(), <-running, sub.Close()); err != nil {
		return err
	}
	c.Messages, c.PerSecond = want, float64(want)/end.Sub(start).Seconds()
	c.CPUMicros = perMessage(before, after, want)
	return c.stored(ctx, s, topic, group)
}

// stored fails when the group would be given messages again that count as handled, or some came twice.
func (c *Consumption) stored(ctx context.Context, s servers, topic, group string) error {
	admin, err := kafka.NewAdmin(s.kafka())
	if err != nil {
		return err
	}
	lags, err := admin.Lag(ctx, map[string][]string{group: {topic}})
	if err := errors.Join(err, admin.Close()); err != nil {
		return err
	}
	var committed int64
	for _, p := range lags[0].Partitions {
		committed += max(p.Committed, 0)
	}
	if committed != int64(c.Messages) {
		return fmt.Errorf("%d messages were handled, and %d are stored as read", c.Messages, committed)
	}
	return nil
}
