// Package broker is the Kafka that a test is told of by the environment: topics of its own, and what stands in them.
package broker

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// Bounds on waiting for something that will happen, and how often to look.
const (
	Patience = 60 * time.Second
	Tick     = 20 * time.Millisecond
)

// FromEnv reads KAFKA_BROKERS.
func FromEnv() (kafka.Config, error) {
	cfg := kafka.Config{ClientID: "tests"}
	for _, b := range strings.Split(os.Getenv("KAFKA_BROKERS"), ",") {
		if b = strings.TrimSpace(b); b != "" {
			cfg.Brokers = append(cfg.Brokers, b)
		}
	}
	if len(cfg.Brokers) == 0 {
		return cfg, errors.New("KAFKA_BROKERS is empty, must be host:port separated by commas")
	}
	return cfg, cfg.Validate()
}

// Name is a name that nobody has had: of a topic, a group, an instance.
func Name() string { return "test-" + strings.ToLower(rand.Text()[:12]) }

// Topics creates topics of one partition.
func Topics(t *testing.T, cfg kafka.Config, names ...string) {
	t.Helper()
	var topics []kafka.Topic
	for _, name := range names {
		topics = append(topics, kafka.Topic{Name: name, Partitions: 1})
	}
	Create(t, cfg, topics...)
}

// Create creates topics, which are deleted at the end of the test.
func Create(t *testing.T, cfg kafka.Config, topics ...kafka.Topic) {
	t.Helper()
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	require.Eventually(t, func() bool { // a cluster that just started, or is busy, may refuse at first
		return admin.EnsureTopics(t.Context(), topics) == nil
	}, Patience, Tick, "the topics are created")
	t.Cleanup(func() {
		deleter, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
		if err != nil {
			t.Log("topics are left behind:", err)
			return
		}
		defer func() { _ = deleter.Close() }()
		for _, topic := range topics {
			if err := deleter.DeleteTopic(topic.Name); err != nil {
				t.Log("a topic is left behind:", topic.Name, err)
			}
		}
	})
}

// Values returns the values that stand in the only partition of topic now, as readers of that isolation see them. It
// leaves a record without a value at the end, since a log may end in markers, which no consumer hands out.
func Values(t *testing.T, cfg kafka.Config, topic string, isolation sarama.IsolationLevel) (values []string) {
	t.Helper()
	settings := cfg.Sarama()
	settings.Consumer.IsolationLevel = isolation
	client, err := sarama.NewClient(cfg.Brokers, settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	producer, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close()) }()
	_, end, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic})
	require.NoError(t, err)
	consumer, err := sarama.NewConsumerFromClient(client)
	require.NoError(t, err)
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	require.NoError(t, err)
	defer func() { require.NoError(t, partition.Close()) }()
	over := time.After(Patience)
	for {
		select {
		case r := <-partition.Messages():
			if r.Offset == end {
				return values
			}
			if r.Value != nil {
				values = append(values, string(r.Value))
			}
		case <-over:
			require.FailNow(t, "the end of the log does not come", topic)
		}
	}
}

// Committed is the group's committed offset in the only partition of topic, -1 if there is none or the cluster does not
// say.
func Committed(t *testing.T, admin *kafka.Admin, group, topic string) int64 {
	t.Helper()
	commits, err := admin.Commits(t.Context(), group, topic)
	if c, is := commits[0]; err == nil && is {
		return c.Offset
	}
	return -1
}
