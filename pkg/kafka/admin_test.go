package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

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

func TestLag(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 2, "topic")
	p := publisher(t, cfg)
	for n := range 10 {
		send(t, p, addressed("topic", "k", n))
	}
	a := admin(t, cfg)
	lags, err := a.Lag(t.Context(), "group")
	require.NoError(t, err)
	require.Empty(t, lags)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
	messages := subscribe(t, s, "topic")
	var at int32
	for range 3 {
		m := receive(t, messages)
		r, _ := kafka.RecordOf(m)
		at = r.Partition
		m.Ack()
	}
	require.Eventually(t, func() bool { return committed(cluster, "group", "topic", at) == 3 }, patience, tick)
	lags, err = a.Lag(t.Context(), "group")
	require.NoError(t, err)
	want := []kafka.PartitionLag{
		{Topic: "topic", Partition: 0, Committed: -1}, {Topic: "topic", Partition: 1, Committed: -1},
	}
	want[at] = kafka.PartitionLag{Topic: "topic", Partition: at, Committed: 3, End: 10, Lag: 7}
	require.Equal(t, want, lags)
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

// A group that has members and committed nothing has no lag yet.
func TestLagOfAGroupThatCommittedNothing(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
	subscribe(t, s, "topic")
	require.Eventually(t, s.Joined, patience, tick)
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	lags, err := admin.Lag(t.Context(), "group")
	require.NoError(t, err)
	require.Empty(t, lags)
}
