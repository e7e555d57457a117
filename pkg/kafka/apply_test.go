package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// planned plans declared against the cluster as it is now.
func planned(t *testing.T, a *kafka.Admin, declared []kafka.Topic, grow bool) []kafka.Change {
	t.Helper()
	var names []string
	for _, topic := range declared {
		names = append(names, topic.Name)
	}
	cluster, err := a.Describe(t.Context(), names...)
	require.NoError(t, err)
	changes, err := kafka.Plan(declared, cluster, grow)
	require.NoError(t, err)
	return changes
}

func TestApplyMakesEveryChange(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "there")
	a := admin(t, cfg)
	declared := []kafka.Topic{
		{Name: "there", Partitions: 3, Replication: 1, Configs: map[string]string{"retention.ms": "-1"}},
		{Name: "new", Partitions: 2, Replication: 1, Configs: map[string]string{"cleanup.policy": "compact"}},
	}
	changes := planned(t, a, declared, true)
	require.Len(t, changes, 3)
	var did []kafka.Change
	require.NoError(t, a.Apply(t.Context(), declared, changes, func(c kafka.Change) { did = append(did, c) }))
	require.ElementsMatch(t, changes, did)
	require.Equal(t, kafka.ChangePartitions, did[0].Kind, "before anything that takes its time")
	require.Empty(t, planned(t, a, declared, false))
}

func TestApplyDoesAllOrNothing(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "there", "a_b")
	a := admin(t, cfg)
	for name, bad := range map[string]kafka.Topic{
		"refused":             {Name: "there", Partitions: 1, Configs: map[string]string{"retention.ms": "1"}},
		"keys move":           {Name: "there", Partitions: 2},
		"the cluster says no": {Name: "a.b", Partitions: 1}, // it tells no such name from a_b
	} {
		declared := []kafka.Topic{{Name: "new", Partitions: 1}, bad}
		changes := planned(t, a, declared, false)
		require.Len(t, changes, 2, name)
		err := a.Apply(t.Context(), declared, changes, func(c kafka.Change) { require.Fail(t, "changed", "%v", c) })
		require.Equal(t, fault.Permanent, fault.KindOf(err), "%s: %v", name, err)
	}
	names, err := a.TopicNames(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a_b", "there"}, names)
}

// The embedded broker says yes to new copies and makes none: what the cluster does not show was not done.
func TestApplyBelievesWhatTheClusterShows(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	a := admin(t, kafka.Config{Brokers: cluster.ListenAddrs()})
	require.NoError(t, a.EnsureTopics(t.Context(), []kafka.Topic{{Name: "topic", Partitions: 2, Replication: 1}}))
	declared := []kafka.Topic{{Name: "topic", Partitions: 2, Replication: 2}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = a.Apply(ctx, declared, planned(t, a, declared, false), func(kafka.Change) {})
	require.ErrorContains(t, err, "the cluster took the changes but does not show them yet: replication of topic")
}
