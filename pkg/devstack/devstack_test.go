package devstack_test

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func start(t *testing.T, cfg devstack.Config) *devstack.Stack {
	t.Helper()
	s, err := devstack.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func client(t *testing.T, s *devstack.Stack) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(s.RedisURL())
	require.NoError(t, err)
	c := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestKafkaIsKeptAcrossARestart(t *testing.T) {
	t.Parallel()
	topic := kafka.Topic{Name: "topic", Partitions: 2}
	cfg := devstack.Config{Dir: t.TempDir(), Topics: []kafka.Topic{topic}}
	s := start(t, cfg)
	for n, id := range []string{"first", "second"} {
		publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: kafka.Config{Brokers: s.Brokers()}}, quiet)
		require.NoError(t, err)
		require.Nil(t, publisher.SendBatch(t.Context(), []event.Addressed{{Topic: "topic", Event: event.Event{
			ID: id, Type: "t", Source: "/t", Key: "k", Time: time.Now(), Data: []byte(`{}`),
		}}}))
		require.NoError(t, publisher.Close())
		subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Config: kafka.Config{Brokers: s.Brokers()}, Group: "group", Topics: []string{"topic"},
		}, quiet)
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(context.Background(), "topic")
		require.NoError(t, err)
		m := <-messages
		require.Equal(t, id, m.UUID, "what was committed does not come again")
		m.Ack()
		require.NoError(t, subscriber.Close())
		require.EqualValues(t, n+1, s.Cluster().GroupInfo("group").Commits["topic"][partition(t, m.Metadata)].Offset)
		require.NoError(t, s.Stop())
		if n == 0 {
			s = start(t, cfg)
		}
	}
}

func partition(t *testing.T, metadata map[string]string) int32 {
	t.Helper()
	p, err := strconv.Atoi(metadata["_kafka_partition"])
	require.NoError(t, err)
	return int32(p)
}

// A client that would have topics created gets none: the same here as in production.
func TestKafkaCreatesNoTopicOnDemand(t *testing.T) {
	t.Parallel()
	s := start(t, devstack.Config{})
	settings := kafka.Config{}.Sarama()
	settings.Metadata.AllowAutoTopicCreation = true
	settings.Metadata.Retry.Max = 0
	careless, err := sarama.NewClient(s.Brokers(), settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, careless.Close()) }()
	require.ErrorIs(t, careless.RefreshMetadata("topic"), sarama.ErrUnknownTopicOrPartition)
	topics, err := careless.Topics()
	require.NoError(t, err)
	require.Empty(t, topics)
}

func TestRedisIsKeptAcrossARestart(t *testing.T) {
	t.Parallel()
	ctx, cfg := t.Context(), devstack.Config{Dir: t.TempDir()}
	s := start(t, cfg)
	c := client(t, s)
	binary := string([]byte{0, 255, 10})
	require.NoError(t, c.Set(ctx, "string", binary, 0).Err())
	require.NoError(t, c.Set(ctx, "expiring", "v", time.Hour).Err())
	require.NoError(t, c.Set(ctx, "short", "v", 50*time.Millisecond).Err())
	require.NoError(t, c.RPush(ctx, "list", "b", "a", "b").Err())
	require.NoError(t, c.SAdd(ctx, "set", "x", "y").Err())
	require.NoError(t, c.HSet(ctx, "hash", "f", "1", "g", binary).Err())
	require.NoError(t, c.ZAdd(ctx, "zset", redis.Z{Score: 1.5, Member: "m"}).Err())
	for _, id := range []string{"1-1", "1-2", "2-0", "3-0"} {
		require.NoError(t, c.XAdd(ctx, &redis.XAddArgs{Stream: "stream", ID: id, Values: []string{"k", id, "b", binary}}).Err())
	}
	require.NoError(t, c.Expire(ctx, "stream", time.Hour).Err())
	require.NoError(t, c.XGroupCreate(ctx, "stream", "group", "0").Err())
	require.NoError(t, c.XGroupCreateMkStream(ctx, "empty", "group", "0").Err())
	read := func(c *redis.Client, count int64) (ids []string) {
		streams, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "group", Consumer: "one", Streams: []string{"stream", ">"}, Count: count, Block: -1}).Result()
		if err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
			require.NoError(t, err)
		}
		for _, stream := range streams {
			for _, m := range stream.Messages {
				ids = append(ids, m.ID)
			}
		}
		return ids
	}
	require.Equal(t, []string{"1-1", "1-2", "2-0"}, read(c, 3))
	require.NoError(t, c.XAck(ctx, "stream", "group", "1-1", "2-0").Err())
	require.NoError(t, s.Stop())

	for range 2 { // what was restored is saved again
		s = start(t, cfg)
		c = client(t, s)
		require.Equal(t, binary, c.Get(ctx, "string").Val())
		require.Equal(t, "v", c.Get(ctx, "expiring").Val())
		require.InDelta(t, time.Hour, c.TTL(ctx, "expiring").Val(), float64(time.Minute))
		require.InDelta(t, time.Hour, c.TTL(ctx, "stream").Val(), float64(time.Minute))
		require.EqualValues(t, -1, c.TTL(ctx, "string").Val())
		require.Eventually(t, func() bool { return c.Exists(ctx, "short").Val() == 0 }, 5*time.Second, 10*time.Millisecond)
		require.Equal(t, []string{"b", "a", "b"}, c.LRange(ctx, "list", 0, -1).Val())
		require.ElementsMatch(t, []string{"x", "y"}, c.SMembers(ctx, "set").Val())
		require.Equal(t, map[string]string{"f": "1", "g": binary}, c.HGetAll(ctx, "hash").Val())
		require.Equal(t, []redis.Z{{Score: 1.5, Member: "m"}}, c.ZRangeWithScores(ctx, "zset", 0, -1).Val())
		entries := c.XRange(ctx, "stream", "-", "+").Val()
		require.Len(t, entries, 4)
		require.Equal(t, redis.XMessage{ID: "1-2", Values: map[string]any{"k": "1-2", "b": binary}}, entries[1])
		pending := c.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: "stream", Group: "group", Start: "-", End: "+", Count: 10}).Val()
		require.Len(t, pending, 1)
		require.Equal(t, "1-2", pending[0].ID)
		require.Equal(t, "one", pending[0].Consumer)
		require.EqualValues(t, 1, pending[0].RetryCount)
		require.Len(t, c.XInfoGroups(ctx, "empty").Val(), 1)
		require.NoError(t, s.Stop())
	}
	s = start(t, cfg)
	c = client(t, s)
	require.Equal(t, []string{"3-0"}, read(c, 10), "the group goes on where it was")
	require.NoError(t, c.XAck(ctx, "stream", "group", "1-2", "3-0").Err())
	require.NoError(t, c.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []string{"k", "v"}}).Err())
}

func TestRedisIsSavedWhileRunning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, devstack.Config{Dir: dir})
	require.NoError(t, client(t, s).Set(t.Context(), "k", "v", 0).Err())
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "redis.snapshot"))
		return err == nil && len(files) == 1
	}, 10*time.Second, 20*time.Millisecond)
}

func TestOneStackADirectory(t *testing.T) {
	t.Parallel()
	cfg := devstack.Config{Dir: t.TempDir()}
	s := start(t, cfg)
	_, err := devstack.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "is in use by another stack")
	require.NoError(t, s.Stop())
	start(t, cfg)
}

func TestPorts(t *testing.T) {
	t.Parallel()
	s := start(t, devstack.Config{})
	_, kafkaPort, err := net.SplitHostPort(s.Brokers()[0])
	require.NoError(t, err)
	redisURL, err := url.Parse(s.RedisURL())
	require.NoError(t, err)
	taken := devstack.Config{}
	taken.KafkaPort, err = strconv.Atoi(kafkaPort)
	require.NoError(t, err)
	_, err = devstack.Start(t.Context(), taken)
	require.ErrorContains(t, err, "kafka on port "+kafkaPort)
	taken = devstack.Config{}
	taken.RedisPort, err = strconv.Atoi(redisURL.Port())
	require.NoError(t, err)
	_, err = devstack.Start(t.Context(), taken)
	require.ErrorContains(t, err, "redis on port "+redisURL.Port())
	// A port that is free again can be asked for by number.
	require.NoError(t, s.Stop())
	again := start(t, taken)
	require.Equal(t, redisURL.String(), again.RedisURL())
}
