package bench

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// tail reads topics as they come, in no group.
type tail struct {
	client     sarama.Client
	consumer   sarama.Consumer
	partitions []sarama.PartitionConsumer
	readers    sync.WaitGroup
}

// followEnds hands every end from now on to the tracker.
func followEnds(brokers []string, t *tracker) (*tail, error) {
	return follow(brokers, []string{events.TopicOrderConfirmed, events.TopicOrderCancelled}, func(m *sarama.ConsumerMessage) {
		t.ended(string(m.Key), end{at: time.Now(), confirmed: m.Topic == events.TopicOrderConfirmed})
	})
}

// follow hands every record of the topics from now on to fn, from several goroutines.
func follow(brokers, topics []string, fn func(*sarama.ConsumerMessage)) (_ *tail, err error) {
	cfg := kafka.Config{Brokers: brokers, ClientID: "orderflow-bench"}.Sarama()
	client, err := sarama.NewClient(brokers, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", brokers, err)
	}
	l := &tail{client: client}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.consumer, err = sarama.NewConsumerFromClient(client); err != nil {
		return nil, err
	}
	for _, topic := range topics {
		partitions, err := client.Partitions(topic)
		if err != nil {
			return nil, fmt.Errorf("partitions of %s: %w", topic, err)
		}
		for _, p := range partitions {
			pc, err := l.consumer.ConsumePartition(topic, p, sarama.OffsetNewest)
			if err != nil {
				return nil, fmt.Errorf("read %s/%d: %w", topic, p, err)
			}
			l.partitions = append(l.partitions, pc)
			l.readers.Go(func() {
				for m := range pc.Messages() {
					fn(m)
				}
			})
		}
	}
	return l, nil
}

func (l *tail) close() error {
	for _, pc := range l.partitions {
		pc.AsyncClose()
	}
	l.readers.Wait()
	var err error
	if l.consumer != nil {
		err = l.consumer.Close()
	}
	return errors.Join(err, l.client.Close())
}
