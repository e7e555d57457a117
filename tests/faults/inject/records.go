package inject

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// Records sends records of a topic again: what a producer does that tries again badly, or a mirror that was set back. Key,
// headers, bytes, timestamp and partition stay; only the offset is new. It is no service, so a Network lets it through.
type Records struct {
	client   sarama.Client
	producer sarama.SyncProducer
}

// Record is one that stands in a topic.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64

	message *sarama.ProducerMessage
}

// OpenRecords connects to a cluster. Close it.
func OpenRecords(brokers []string) (*Records, error) {
	settings := kafka.Config{Brokers: brokers, ClientID: "faults"}.Sarama()
	settings.Producer.Return.Successes = true
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	client, err := sarama.NewClient(brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open records: %w", err), client.Close())
	}
	return &Records{client, producer}, nil
}

// Close closes the connection.
func (r *Records) Close() error { return errors.Join(r.producer.Close(), r.client.Close()) }

// Newest returns the last n records of each partition of a topic, or as many as there are, a partition's in their order. It
// is for topics that nobody writes to in transactions: their markers look like records that do not come.
func (r *Records) Newest(ctx context.Context, topic string, n int) ([]Record, error) {
	if err := r.client.RefreshMetadata(topic); err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	partitions, err := r.client.Partitions(topic)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	consumer, err := sarama.NewConsumerFromClient(r.client)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	defer func() { _ = consumer.Close() }() // the client stays
	var all []Record
	for _, p := range partitions {
		some, err := r.newest(ctx, consumer, topic, p, int64(n))
		if err != nil {
			return nil, fmt.Errorf("read %s/%d: %w", topic, p, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (r *Records) newest(ctx context.Context, consumer sarama.Consumer, topic string, p int32, n int64) (some []Record, err error) {
	start, err := r.client.GetOffset(topic, p, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	end, err := r.client.GetOffset(topic, p, sarama.OffsetNewest)
	if err != nil {
		return nil, err
	}
	if start = max(start, end-n); start >= end {
		return nil, nil
	}
	partition, err := consumer.ConsumePartition(topic, p, start)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, partition.Close()) }()
	for {
		select {
		case m := <-partition.Messages():
			some = append(some, record(m))
			if m.Offset >= end-1 {
				return some, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func record(m *sarama.ConsumerMessage) Record {
	again := &sarama.ProducerMessage{Topic: m.Topic, Partition: m.Partition, Timestamp: m.Timestamp}
	if m.Key != nil {
		again.Key = sarama.ByteEncoder(m.Key)
	}
	if m.Value != nil {
		again.Value = sarama.ByteEncoder(m.Value)
	}
	for _, h := range m.Headers {
		again.Headers = append(again.Headers, *h)
	}
	return Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, message: again}
}

// Send sends records again in the order given, each to its partition, and returns when the cluster has them. Sent at once
// they are duplicates, sent later they are late, and sent in another order they are out of order.
func (r *Records) Send(records ...Record) error {
	for _, record := range records {
		again := *record.message // the client notes in it where it came to stand
		if _, _, err := r.producer.SendMessage(&again); err != nil {
			return fmt.Errorf("send %s/%d@%d again: %w", record.Topic, record.Partition, record.Offset, err)
		}
	}
	return nil
}

// Shuffled are records in another order, by random: older ones after newer ones.
func Shuffled(records []Record, random *rand.Rand) []Record {
	other := slices.Clone(records)
	random.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	return other
}
