package kafka_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestSeesNewPartitions(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	send(t, p, ofKey("topic", "k", 0, 5)...)
	client, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.CreatePartitions("topic", 4, nil, false))
	// It looks when something fails, and every minute.
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.NotLeaderForPartition})
	send(t, p, addressed("topic", "k", 5))
	var batch []event.Addressed
	for n := range 100 {
		batch = append(batch, addressed("topic", fmt.Sprint("key-", n), n))
	}
	send(t, p, batch...)
	ranges, err := admin(t, cfg).Ranges(t.Context(), "topic")
	require.NoError(t, err)
	require.Len(t, ranges, 4)
	for _, r := range ranges {
		require.Positive(t, r.End)
	}
}

// A topic that was just made has no leaders for a moment.
func TestWaitsForLeaders(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "before", "topic")
	p := publisher(t, cfg)
	unled := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "topic", Err: kerr.LeaderNotAvailable, Count: 5})
	send(t, p, addressed("before", "k", 0), addressed("topic", "k", 0))
	require.EqualValues(t, 5, unled.Hits())
}

// A topic that is made again has none of the numbers of the one before.
func TestTopicMadeAgain(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	p := publisher(t, cfg)
	send(t, p, ofKey("topic", "k", 0, 5)...)
	client, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.DeleteTopic("topic"))
	require.Eventually(t, func() bool {
		err := errors.Join(p.SendBatch(t.Context(), ofKey("topic", "k", 5, 6))...)
		return errors.Is(err, sarama.ErrUnknownTopicOrPartition)
	}, patience, tick)
	require.NoError(t, admin(t, cfg).EnsureTopics(t.Context(), []kafka.Topic{{Name: "topic", Partitions: 1, Replication: 1}}))
	require.Eventually(t, func() bool { return p.SendBatch(t.Context(), ofKey("topic", "k", 6, 7)) == nil }, patience, tick)
	send(t, p, ofKey("topic", "k", 7, 12)...)
	require.Equal(t, data(ofKey("topic", "k", 6, 12)...), log(t, cfg, "topic", sarama.ReadUncommitted))
}
