package topics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// readTimeout bounds the wait for a record that the cluster says is there.
const readTimeout = 10 * time.Second

// Client reads and writes topics. It is safe for concurrent use.
type Client struct {
	client   sarama.Client
	producer sarama.SyncProducer
}

// Open connects to a cluster.
func Open(brokers []string) (*Client, error) {
	cfg := kafka.Config{Brokers: brokers, ClientID: "orderflow-topics"}.Sarama()
	cfg.Producer.Partitioner = sarama.NewManualPartitioner // Send chooses
	cfg.Consumer.MaxWaitTime = 50 * time.Millisecond
	client, err := sarama.NewClient(brokers, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", brokers, err)
	}
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the Kafka producer: %w", err), client.Close())
	}
	return &Client{client: client, producer: producer}, nil
}

// Close disconnects.
func (c *Client) Close() error { return errors.Join(c.producer.Close(), c.client.Close()) }

// Partition is where a key's records stand in a topic.
func (c *Client) Partition(topic, key string) (int32, error) {
	partitions, err := c.client.Partitions(topic)
	if err != nil {
		return 0, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	message := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key)}
	return sarama.NewMurmur2Partitioner(topic).Partition(message, int32(len(partitions)))
}

// Send puts a record onto its topic as it is and returns it with the place that it got. A record with a key goes to its
// key's partition, one without to r.Partition.
func (c *Client) Send(r kafka.Record) (kafka.Record, error) {
	message := &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition}
	if r.Value != nil {
		message.Value = sarama.ByteEncoder(r.Value)
	}
	if r.Key != nil {
		partition, err := c.Partition(r.Topic, string(r.Key))
		if err != nil {
			return r, err
		}
		message.Key, message.Partition = sarama.ByteEncoder(r.Key), partition
	}
	for name, value := range r.Headers {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	var err error
	if r.Partition, r.Offset, err = c.producer.SendMessage(message); err != nil {
		return r, fmt.Errorf("send to %s: %w", r.Topic, err)
	}
	return r, nil
}

// Entry is one record of a story.
type Entry struct {
	kafka.Record
	// Event is what the record says, if it is a message.
	Event event.Event
	// Err is why it is none.
	Err error
}

// Story returns every record with a key in the topics of events and commands, causes before effects.
func (c *Client) Story(ctx context.Context, key string) ([]Entry, error) {
	consumer, err := sarama.NewConsumerFromClient(c.client)
	if err != nil {
		return nil, fmt.Errorf("open a Kafka consumer: %w", err)
	}
	var story []Entry
	for _, topic := range events.Topics() {
		if topic.Kind != events.KindEvent && topic.Kind != events.KindCommand {
			continue
		}
		partition, err := c.Partition(topic.Name, key)
		if err != nil {
			return nil, err
		}
		err = c.read(ctx, consumer, topic.Name, partition, func(m *sarama.ConsumerMessage) {
			if string(m.Key) == key {
				story = append(story, entry(m))
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return order(story), nil
}

func entry(m *sarama.ConsumerMessage) Entry {
	r := kafka.Record{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UTC(), Key: m.Key, Value: m.Value,
		Headers: map[string]string{},
	}
	for _, h := range m.Headers {
		if h != nil {
			r.Headers[string(h.Key)] = string(h.Value)
		}
	}
	e := Entry{Record: r}
	e.Event, e.Err = event.FromHeaders(r.Headers, r.Value)
	return e
}

// read gives every record that stands in a partition now.
func (c *Client) read(ctx context.Context, consumer sarama.Consumer, topic string, partition int32, each func(*sarama.ConsumerMessage)) error {
	what := fmt.Sprintf("read %s, partition %d", topic, partition)
	oldest, err := c.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	end, err := c.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if oldest >= end {
		return nil
	}
	messages, err := consumer.ConsumePartition(topic, partition, oldest)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer messages.Close() //nolint:errcheck // what was read is read
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		select {
		case m := <-messages.Messages():
			each(m)
			if m.Offset >= end-1 {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%s up to offset %d: %w", what, end, ctx.Err())
		}
	}
}

// order puts causes before effects, and otherwise keeps the order of time.
func order(story []Entry) []Entry {
	slices.SortStableFunc(story, func(a, b Entry) int { return a.time().Compare(b.time()) })
	byID := map[string]bool{}
	for _, e := range story {
		byID[e.Event.ID] = true
	}
	placed, sorted := map[string]bool{}, make([]Entry, 0, len(story))
	for rest := story; len(rest) > 0; {
		var later []Entry
		for _, e := range rest {
			cause := e.Event.CausationID
			if byID[cause] && !placed[cause] && cause != e.Event.ID {
				later = append(later, e)
				continue
			}
			placed[e.Event.ID] = true
			sorted = append(sorted, e)
		}
		if len(later) == len(rest) { // a circle: leave it as it is
			return append(sorted, later...)
		}
		rest = later
	}
	return sorted
}

func (e Entry) time() time.Time {
	if e.Err != nil {
		return e.Timestamp
	}
	return e.Event.Time
}
