package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// A message that waits, for a database that is away say, costs the member no partition: it stays in its group for however
// long that takes, and the offset stays where it is.
func TestWaitingMessageLosesNoPartition(t *testing.T) {
	t.Parallel()
	const session = 2 * time.Second
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "topic"), kfake.GroupMinSessionTimeout(session))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	cfg := kafka.Config{Brokers: fake.ListenAddrs()}
	send(t, publisher(t, cfg), addressed("topic", "a", 0), addressed("topic", "b", 0))
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, SessionTimeout: session})
	messages := subscribe(t, s, "topic")
	one, two := receive(t, messages), receive(t, messages)
	generation := fake.GroupInfo("group").Epoch
	require.Never(t, func() bool {
		info := fake.GroupInfo("group")
		return !s.Joined() || info.Epoch != generation || len(info.Commits) > 0 || one.Context().Err() != nil
	}, 5*session/2, tick)
	one.Ack()
	two.Ack()
	require.Eventually(t, func() bool {
		return committed(&cluster{Cluster: fake}, "group", "topic", 0)+committed(&cluster{Cluster: fake}, "group", "topic", 1) >= 1
	}, patience, tick)
}
