package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func admin(t *testing.T, cfg kafka.Config) *kafka.Admin {
	t.Helper()
	a, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestEnsureTopicsCreatesOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 3, "there")
	a := admin(t, cfg)
	missing, err := a.MissingTopics(t.Context(), []string{"there", "new"})
	require.NoError(t, err)
	require.Equal(t, []string{"new"}, missing)
	for range 2 {
		require.NoError(t, a.EnsureTopics(t.Context(), []kafka.Topic{
			{Name: "there", Partitions: 1},
			{Name: "new", Partitions: 2, Configs: map[string]string{"retention.ms": "1000"}},
		}))
		missing, err = a.MissingTopics(t.Context(), []string{"there", "new"})
		require.NoError(t, err)
		require.Empty(t, missing)
		require.Equal(t, 3, partitions(t, cfg, "there"))
		require.Equal(t, 2, partitions(t, cfg, "new"))
	}
}

func partitions(t *testing.T, cfg kafka.Config, topic string) int {
	t.Helper()
	client, err := sarama.NewClient(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	all, err := client.Partitions(topic)
	require.NoError(t, err)
	return len(all)
}

func TestReachableIsBounded(t *testing.T) {
	t.Parallel()
	a := admin(t, kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := a.Reachable(ctx)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, cfg := broker(t, 1)
	require.NoError(t, admin(t, cfg).Reachable(t.Context()))
}
