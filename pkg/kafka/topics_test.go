package kafka_test

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestEnsureTopicsCreatesOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 3, "there")
	a := admin(t, cfg)
	names, err := a.TopicNames(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"there"}, names)
	for range 2 {
		require.NoError(t, a.EnsureTopics(t.Context(), []kafka.Topic{
			{Name: "there", Partitions: 1},
			{Name: "new", Partitions: 2, Configs: map[string]string{"retention.ms": "1000"}},
		}))
		cluster, err := a.Describe(t.Context(), "there", "new", "gone")
		require.NoError(t, err)
		require.Len(t, cluster.Topics, 2)
		require.Len(t, cluster.Topics["there"].Replicas, 3)
		require.Empty(t, cluster.Topics["there"].Overrides)
		require.Equal(t, "1048588", cluster.Topics["there"].Configs["max.message.bytes"], "Kafka's default")
		require.Len(t, cluster.Topics["new"].Replicas, 2)
		require.Equal(t, map[string]string{"retention.ms": "1000"}, cluster.Topics["new"].Overrides)
		require.Equal(t, "1000", cluster.Topics["new"].Configs["retention.ms"])
	}
}

// A misspelt topic is an error and never a new topic, also on a cluster that would create one for whoever asks.
func TestNothingIsCreatedOnDemand(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation())
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.Config{Brokers: cluster.ListenAddrs(), ClientID: "test"}
	settings := cfg.Sarama()
	settings.Metadata.AllowAutoTopicCreation = true
	careless, err := sarama.NewClient(cfg.Brokers, settings)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, careless.Close()) })
	require.NoError(t, careless.RefreshMetadata("careless"), "this cluster creates topics")

	p := publisher(t, cfg)
	for _, err := range p.SendBatch(t.Context(), []event.Addressed{addressed("published", "k", 1)}) {
		require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	}
	require.Error(t, p.SendRecord(t.Context(), kafka.Record{Topic: "sent", Value: []byte("x")}))
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"subscribed"}})
	subscribe(t, s, "subscribed")
	require.Eventually(t, func() bool {
		err := s.Trouble()
		return err != nil && strings.Contains(err.Error(), sarama.ErrUnknownTopicOrPartition.Error())
	}, patience, tick)
	a := admin(t, cfg)
	found, err := a.Describe(t.Context(), "described")
	require.NoError(t, err)
	require.Empty(t, found.Topics)

	names, err := a.TopicNames(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"careless"}, names)
}
