package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

const (
	patience = 20 * time.Second
	tick     = 10 * time.Millisecond
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-metrics, which sarama counts with, starts one ticker a process and never stops it.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Watermill's conformance suite stops reading from its own multiplied subscriber with messages still in it.
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func2"),
		goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe.func3"),
	)
}

var quiet = slog.New(slog.DiscardHandler)

// broker starts a broker in memory with topics of the given number of partitions.
func broker(t *testing.T, partitions int32, topics ...string) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, kafka.Config{Brokers: cluster.ListenAddrs(), ClientID: "test"}
}

func publisher(t *testing.T, cfg kafka.Config) *kafka.Publisher {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func subscriber(t *testing.T, cfg kafka.SubscriberConfig) *kafka.Subscriber {
	t.Helper()
	if cfg.Group == "" {
		cfg.Group = "group"
	}
	if cfg.NackDelay == 0 {
		cfg.NackDelay = time.Millisecond
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 2 * time.Second // tests end with messages in hand
	}
	s, err := kafka.NewSubscriber(cfg, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func subscribe(t *testing.T, s *kafka.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	return messages
}

// addressed is an event on topic whose id is "<key>-<n>".
func addressed(topic, key string, n int) event.Addressed {
	return event.Addressed{Topic: topic, Event: event.Event{
		ID: fmt.Sprintf("%s-%d", key, n), Type: "test.happened", Source: "/test", Key: key, Subject: key,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}}
}

func send(t *testing.T, p *kafka.Publisher, batch ...event.Addressed) {
	t.Helper()
	for _, err := range p.SendBatch(context.Background(), batch) {
		require.NoError(t, err)
	}
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		require.True(t, ok, "the channel is closed")
		return m
	case <-time.After(patience):
		require.FailNow(t, "no message")
		return nil
	}
}

// nothing asserts that no message is handed out for a moment; it cannot prove that none ever will be.
func nothing(t *testing.T, messages <-chan *message.Message) {
	t.Helper()
	select {
	case m, ok := <-messages:
		if ok {
			require.FailNow(t, "unexpected message", m.UUID)
		}
	case <-time.After(300 * time.Millisecond):
	}
}

// committed is the group's committed offset, or -1.
func committed(cluster *kfake.Cluster, group, topic string, partition int32) int64 {
	info := cluster.GroupInfo(group)
	if info == nil {
		return -1
	}
	commit, ok := info.Commits[topic][partition]
	if !ok {
		return -1
	}
	return commit.Offset
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().(*net.TCPAddr).Port
}

// brokerAt starts a broker on a fixed port that keeps its state in dir.
func brokerAt(t *testing.T, port int, dir string) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster
}
