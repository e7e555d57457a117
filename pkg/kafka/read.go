package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/IBM/sarama"
)

// readTimeout bounds the wait for the next record that should be there.
const readTimeout = 10 * time.Second

// Read gives every committed record in stretches of a topic to each, one partition after the other. It joins no group. A
// stretch whose last offset is no record, but a transaction's marker, fails.
func Read(ctx context.Context, cfg Config, topic string, ranges map[int32]Range, each func(Record)) (err error) {
	ranges = maps.Clone(ranges)
	maps.DeleteFunc(ranges, func(_ int32, r Range) bool { return r.Start >= r.End })
	if len(ranges) == 0 {
		return nil
	}
	consumer, err := sarama.NewConsumer(cfg.Brokers, cfg.Sarama())
	if err != nil {
		return classify("read "+topic, err)
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	for partition, r := range ranges {
		if err := readPartition(ctx, consumer, topic, partition, r, each); err != nil {
			return classify(fmt.Sprintf("read %s/%d", topic, partition), err)
		}
	}
	return nil
}

func readPartition(ctx context.Context, consumer sarama.Consumer, topic string, partition int32, r Range, each func(Record)) error {
	records, err := consumer.ConsumePartition(topic, partition, r.Start)
	if err != nil {
		return err
	}
	defer records.Close() //nolint:errcheck // what was read is read
	idle := time.NewTimer(readTimeout)
	defer idle.Stop()
	for {
		select {
		case m := <-records.Messages():
			if m.Offset < r.End {
				each(received(m))
			}
			if m.Offset >= r.End-1 {
				return nil
			}
			idle.Reset(readTimeout)
		case <-idle.C:
			return fmt.Errorf("no record for %s before offset %d", readTimeout, r.End)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
