package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
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

// cluster is the Kafka of one test: one in memory, or the one that TEST_KAFKA_BROKERS names, which tests then have one
// after another (-parallel 1), and no other package at the same time: what is in it goes.
type cluster struct {
	// Cluster is nil for a real one.
	*kfake.Cluster
	admin sarama.ClusterAdmin
}

// broker returns a broker with empty topics of the given number of partitions, and no groups.
func broker(t testing.TB, partitions int32, topics ...string) (*cluster, kafka.Config) {
	t.Helper()
	cfg := kafka.Config{ClientID: "test"}
	real := os.Getenv("TEST_KAFKA_BROKERS")
	if real == "" {
		return embedded(t, partitions, topics...)
	}
	cfg.Brokers = strings.Split(real, ",")
	admin, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	c := &cluster{admin: admin}
	c.clean(t)
	made, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	var declared []kafka.Topic
	for _, name := range topics {
		declared = append(declared, kafka.Topic{Name: name, Partitions: partitions, Replication: 1})
	}
	require.NoError(t, made.EnsureTopics(t.Context(), declared))
	for _, topic := range topics { // a broker that was just made leader may not know it yet
		require.Eventually(t, func() bool {
			_, err := made.Ranges(t.Context(), topic)
			return err == nil
		}, patience, tick)
	}
	require.NoError(t, made.Close())
	return c, cfg
}

// embedded returns a broker in memory, for tests of what a real one cannot be told to do.
func embedded(t testing.TB, partitions int32, topics ...string) (*cluster, kafka.Config) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	return &cluster{Cluster: fake}, kafka.Config{Brokers: fake.ListenAddrs(), ClientID: "test"}
}

// clean removes all topics, and all groups, of tests that came before.
func (c *cluster) clean(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		groups, err := c.admin.ListConsumerGroups()
		require.NoError(t, err)
		left := 0
		for group := range groups {
			c.expel(t, group)
			if c.admin.DeleteConsumerGroup(group) != nil {
				left++
			}
		}
		return left == 0
	}, patience, tick)
	require.Eventually(t, func() bool {
		there, err := c.admin.ListTopics()
		require.NoError(t, err)
		left := 0
		for topic := range there {
			if strings.HasPrefix(topic, "__") { // Kafka's own
				continue
			}
			left++
			if err := c.admin.DeleteTopic(topic); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				require.NoError(t, err)
			}
		}
		return left == 0
	}, patience, tick)
}

// expel removes the static members of a group, which are still there after they have gone.
func (c *cluster) expel(t testing.TB, group string) {
	t.Helper()
	groups, err := c.admin.DescribeConsumerGroups([]string{group})
	require.NoError(t, err)
	for _, member := range groups[0].Members {
		if member.GroupInstanceId != nil {
			_, err := c.admin.RemoveMemberFromConsumerGroup(group, []string{*member.GroupInstanceId})
			require.NoError(t, err)
		}
	}
}

// committed is the group's committed offset, or -1.
func committed(c *cluster, group, topic string, partition int32) int64 {
	if c.Cluster == nil {
		offsets, err := c.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
		if err != nil || offsets.GetBlock(topic, partition) == nil {
			return -1
		}
		return offsets.GetBlock(topic, partition).Offset
	}
	info := c.GroupInfo(group)
	if info == nil {
		return -1
	}
	commit, ok := info.Commits[topic][partition]
	if !ok {
		return -1
	}
	return commit.Offset
}

// assigned are the numbers of partitions that the group's members have.
func assigned(t *testing.T, c *cluster, group string) []int {
	t.Helper()
	var counts []int
	if c.Cluster != nil {
		for _, member := range c.GroupInfo(group).Members {
			counts = append(counts, member.NumAssigned())
		}
		return counts
	}
	groups, err := c.admin.DescribeConsumerGroups([]string{group})
	require.NoError(t, err)
	for _, member := range groups[0].Members {
		assignment, err := member.GetMemberAssignment()
		require.NoError(t, err)
		n := 0
		if assignment != nil {
			for _, partitions := range assignment.Topics {
				n += len(partitions)
			}
		}
		counts = append(counts, n)
	}
	return counts
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
