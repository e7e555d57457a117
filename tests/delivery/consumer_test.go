package delivery_test

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// outcome is how often a message takes effect, by guarantee.
type outcome map[kafka.Guarantee]int

// Each fault kills a consumer at its first message, "m". Its successor goes on, and when it has handled "next", which
// has the same key, it has done with "m" too.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]outcome{
		"before handling": {kafka.AtMostOnce: 0, kafka.AtLeastOnce: 1, kafka.EffectivelyOnce: 1},
		"while handling":  {kafka.AtMostOnce: 0, kafka.AtLeastOnce: 1, kafka.EffectivelyOnce: 1},
		"after handling":  {kafka.AtMostOnce: 1, kafka.AtLeastOnce: 2, kafka.EffectivelyOnce: 1},
	} {
		for _, g := range guarantees {
			t.Run(fault+"/"+g.String(), func(t *testing.T) {
				t.Parallel()
				p := newProcess(t, "consumer", g)
				publish(t, p.Topic, "m")
				p.dies(t, fault)
				publish(t, p.Topic, "next")
				p.start(t, "")
				eventually(t, "the next message is handled", func() bool { return p.effects(t)["next"] == 1 })
				require.Equal(t, want[g], p.effects(t)["m"])
			})
		}
	}
}

// The cluster commits the offset, and its answer is lost. The process is killed when the offset of all is committed.
func TestConsumerCommitAnswerLost(t *testing.T) {
	t.Parallel()
	for _, g := range guarantees {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "consumer", g)
			publish(t, p.Topic, "m")
			first := p.start(t, "answer to the offset lost")
			a := admin(t)
			eventually(t, "it is handled and its offset committed", func() bool {
				return p.effects(t)["m"] == 1 && broker.Committed(t, a, p.Group, p.Topic) == 1
			})
			first.stop()
			publish(t, p.Topic, "next")
			p.start(t, "")
			eventually(t, "the next message is handled", func() bool { return p.effects(t)["next"] == 1 })
			require.Equal(t, 1, p.effects(t)["m"])
		})
	}
}

// The handler fails once. At most once does not try again: the message becomes a dead letter.
func TestConsumerHandlerFails(t *testing.T) {
	t.Parallel()
	for g, want := range map[kafka.Guarantee]struct{ effects, letters int }{
		kafka.AtMostOnce:      {0, 1},
		kafka.AtLeastOnce:     {1, 0},
		kafka.EffectivelyOnce: {1, 0},
	} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "consumer", g)
			publish(t, p.Topic, "m")
			publish(t, p.Topic, "next")
			p.start(t, "the handler fails once")
			eventually(t, "the next message is handled", func() bool { return p.effects(t)["next"] == 1 })
			require.Equal(t, want.effects, p.effects(t)["m"])
			require.Len(t, broker.Values(t, cluster, deadletter.Topic(p.Group), sarama.ReadUncommitted), want.letters)
		})
	}
}

// A second member joins while a message of each of two partitions is in hand, and one partition moves to it. In time,
// the handlers end before that; too late, they end when the other member has handled what came to it.
func TestConsumerRebalance(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		late bool
		outcome
	}{
		"handlers end in time":  {false, outcome{kafka.AtMostOnce: 1, kafka.AtLeastOnce: 1, kafka.EffectivelyOnce: 1}},
		"handlers end too late": {true, outcome{kafka.AtMostOnce: 1, kafka.AtLeastOnce: 2, kafka.EffectivelyOnce: 1}},
	} {
		for _, g := range guarantees {
			t.Run(name+"/"+g.String(), func(t *testing.T) {
				t.Parallel()
				rebalance(t, g, want.late, want.outcome[g])
			})
		}
	}
}

func rebalance(t *testing.T, g kafka.Guarantee, late bool, want int) {
	p := newProcess(t, "", g) // for its database and names
	two := broker.Name()
	broker.Create(t, cluster, kafka.Topic{Name: two, Partitions: 2})
	perPartition(t, two, "a", "b")
	db, err := database.Open(t.Context(), p.Database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	member := func(drain time.Duration) (*kafka.Subscriber, <-chan *message.Message) {
		s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
			Config: cluster, Group: p.Group, Topics: []string{two}, Guarantee: g, MaxInFlight: 1, DrainTimeout: drain,
		}, quiet)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		messages, err := s.Subscribe(context.Background(), two)
		require.NoError(t, err)
		return s, messages
	}
	// The effect is one that a handler has however late it is, and an inbox in its transaction if it is to be one.
	handle := func(m *message.Message) {
		e, err := event.FromMessage(m)
		require.NoError(t, err)
		require.NoError(t, db.InTx(context.Background(), func(ctx context.Context, tx *database.Tx) error {
			if g == kafka.EffectivelyOnce {
				fresh, err := inbox.Mark(ctx, tx, p.Group, time.Now(), e.ID)
				if err != nil || !fresh[e.ID] {
					return err
				}
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO effects (value) VALUES ($1)", string(e.Data))
			return err
		}))
		m.Ack()
	}
	drain := 30 * time.Second
	if late {
		drain = time.Millisecond
	}
	first, messages := member(drain)
	inHand := []*message.Message{receive(t, messages), receive(t, messages)}
	second, others := member(drain)
	if !late {
		eventually(t, "the first member is told to give a partition up", func() bool { return members(t, p.Group) == 2 })
		for _, m := range inHand {
			handle(m)
		}
	} else if g == kafka.AtMostOnce {
		// Nothing of before comes to the second: the first has it.
		eventually(t, "a partition has moved", func() bool { return second.Joined() && owned(t, p.Group) == 2 })
	} else {
		handle(receive(t, others))
	}
	if late {
		for _, m := range inHand {
			handle(m)
		}
	}
	// What is sent now shows that what came before is done: each partition has an owner, who hands out in order.
	eventually(t, "both have a partition", func() bool { return first.Joined() && second.Joined() && owned(t, p.Group) == 2 })
	perPartition(t, two, "c", "d")
	seen := map[string]int{}
	for len(seen) < 2 {
		var m *message.Message
		select {
		case m = <-messages:
		case m = <-others:
		case <-time.After(broker.Patience):
			require.FailNow(t, "the messages that follow do not come")
		}
		e, err := event.FromMessage(m)
		require.NoError(t, err)
		if v := string(e.Data); v == `{"value":"c"}` || v == `{"value":"d"}` {
			seen[v]++
		}
		handle(m)
	}
	effects := p.effects(t)
	// One partition moved, and it may have been either.
	require.Equal(t, want+1, effects[`{"value":"a"}`]+effects[`{"value":"b"}`], "%v", effects)
}

// perPartition puts an event of each value into its partition.
func perPartition(t *testing.T, topic string, values ...string) {
	t.Helper()
	settings := cluster.Sarama()
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(cluster.Brokers, settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close()) }()
	for i, v := range values {
		m, err := kafka.Marshaler{}.Marshal(topic, happenedOn(topic, v).Event.Message())
		require.NoError(t, err)
		m.Partition = int32(i)
		_, _, err = producer.SendMessage(m)
		require.NoError(t, err)
	}
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		require.True(t, ok, "the channel is closed")
		return m
	case <-time.After(broker.Patience):
		require.FailNow(t, "no message")
		return nil
	}
}

// members counts the group's members, owned those of them that have a partition.
func members(t *testing.T, group string) int { return len(described(t, group).Members) }

func owned(t *testing.T, group string) (n int) {
	t.Helper()
	for _, m := range described(t, group).Members {
		assignment, err := m.GetMemberAssignment()
		require.NoError(t, err)
		if assignment != nil && len(assignment.Topics) > 0 {
			n++
		}
	}
	return n
}

func described(t *testing.T, group string) *sarama.GroupDescription {
	t.Helper()
	a, err := sarama.NewClusterAdmin(cluster.Brokers, cluster.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	groups, err := a.DescribeConsumerGroups([]string{group})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	return groups[0]
}
