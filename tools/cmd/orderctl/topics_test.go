package main

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
)

const patience = 20 * time.Second

// testCluster is an embedded broker that somebody changes by hand, with a topic of events with 6 partitions declared.
type testCluster struct {
	t     *testing.T
	cfg   kafka.Config
	hand  sarama.ClusterAdmin
	admin *kafka.Admin
}

const topic = "order.created"

func startCluster(t *testing.T) testCluster {
	t.Helper()
	dev, err := devstack.Start(t.Context(), devstack.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Stop()) })
	c := testCluster{t: t, cfg: kafka.Config{Brokers: dev.Brokers()}}
	c.hand, err = sarama.NewClusterAdmin(c.cfg.Brokers, c.cfg.Sarama())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.hand.Close()) })
	c.admin, err = kafka.NewAdmin(c.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.admin.Close()) })
	return c
}

// topics runs `orderctl topics` with args and returns what it printed.
func (c testCluster) topics(code int, args string) string {
	c.t.Helper()
	var out strings.Builder
	all := append([]string{"topics"}, strings.Fields(args)...)
	all = append(all, "--env=development", "--brokers="+c.cfg.Brokers[0])
	require.Equal(c.t, code, run(all, console{out: &out, err: &out}), out.String())
	return out.String()
}

// state is everything that the cluster has.
func (c testCluster) state() map[string]sarama.TopicDetail {
	c.t.Helper()
	all, err := c.hand.ListTopics()
	require.NoError(c.t, err)
	return all
}

func (c testCluster) create(name string, partitions int32, configs map[string]string) {
	c.t.Helper()
	require.NoError(c.t, c.admin.EnsureTopics(c.t.Context(), []kafka.Topic{{Name: name, Partitions: partitions, Configs: configs}}))
}

func (c testCluster) set(name, config, value string) {
	c.t.Helper()
	require.NoError(c.t, c.hand.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{
		config: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
}

func (c testCluster) send(topic string) {
	c.t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: c.cfg}, slog.New(slog.DiscardHandler))
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, p.Close()) }()
	require.NoError(c.t, p.SendRecord(c.t.Context(), kafka.Record{Topic: topic, Value: []byte("{}")}))
}

func TestTopicsPlanApplyCheck(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	require.Contains(t, c.topics(0, "plan"), "+ order.created: create with 6 partitions, 1 copies\n")
	require.Contains(t, c.topics(1, "check"), "not as topics.yaml declares them for development: order.created, order.confirmed, ")
	require.Empty(t, c.state(), "neither changes anything")

	out := c.topics(0, "apply")
	require.Equal(t, len(events.Topics()), strings.Count(out, ": create with "))
	require.Contains(t, out, "27 changes made: all 27 topics are as topics.yaml declares them for development.\n")
	after := c.state()
	require.Len(t, after, 27)
	require.EqualValues(t, 6, after[topic].NumPartitions)
	require.Equal(t, "1209600000", *after[topic].ConfigEntries["retention.ms"])

	require.Equal(t, "Nothing changed: all 27 topics are as topics.yaml declares them for development.\n", c.topics(0, "apply"))
	require.Equal(t, "Nothing to change: all 27 topics are as topics.yaml declares them for development.\n", c.topics(0, "plan"))
	require.Equal(t, "As it should be: all 27 topics are as topics.yaml declares them for development.\n", c.topics(0, "check"))
	require.Equal(t, after, c.state())

	// Somebody changes things by hand.
	c.set(topic, "retention.ms", "86400000")
	c.set(topic, "segment.ms", "60000")
	c.create("payment.old", 1, nil)
	c.create("billing.old", 1, nil)
	out = c.topics(1, "check")
	require.Contains(t, out, "~ order.created: retention.ms 1d → 14d\n")
	require.Contains(t, out, "declares them for development: order.created\n")
	out = c.topics(0, "apply")
	require.Contains(t, out, "1 changes made")
	out = c.topics(0, "plan")
	require.Contains(t, out, "left alone: order.created has segment.ms=60000, which is not declared\n")
	require.Contains(t, out, "left alone: payment.old is named like a topic of payment, but not declared\n")
	require.NotContains(t, out, "billing.old", "nobody here is called billing")
	require.Contains(t, out, "Nothing to change")
	c.topics(0, "check")
	require.Contains(t, c.state(), "payment.old")
}

func TestTopicsNeverShrink(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.create(topic, 8, map[string]string{
		"retention.ms": "-1", "max.message.bytes": "2000000", "cleanup.policy": "compact", "min.insync.replicas": "2",
	})
	before := c.state()
	out := c.topics(1, "apply --grow=anyway")
	for _, line := range []string{
		"~ order.created: partitions 8 → 6\n  refused: Kafka takes no partition away\n  by hand: kafka-topics.sh --bootstrap-server $KAFKA_BROKERS --delete --topic order.created",
		"~ order.created: retention.ms unlimited → 14d\n  refused: records that are older would be deleted\n",
		"~ order.created: max.message.bytes 2000000 → 1048576\n  refused: ",
		"~ order.created: cleanup.policy compact → delete\n  refused: ",
		"~ order.created: min.insync.replicas 2 → 1\n  refused: ",
		"5 of 31 changes are refused, so nothing was changed",
	} {
		require.Contains(t, out, line)
	}
	require.Equal(t, before, c.state(), "the topics that are missing are not created either")

	var plan struct {
		Environment      string
		Brokers, Refused int
		Changes          []kafka.Change
	}
	require.NoError(t, json.Unmarshal([]byte(c.topics(0, "plan --json")), &plan))
	require.Equal(t, "development", plan.Environment)
	require.Equal(t, 1, plan.Brokers)
	require.Equal(t, 5, plan.Refused)
	require.Contains(t, plan.Changes, kafka.Change{
		Topic: topic, Kind: kafka.ChangeConfig, Config: "retention.ms", From: "-1", To: "1209600000",
		Refused: "records that are older would be deleted",
		ByHand:  "kafka-configs.sh --bootstrap-server $KAFKA_BROKERS --alter --entity-type topics --entity-name order.created --add-config 'retention.ms=1209600000'",
	})
}

func TestTopicsNeedAsManyBrokersAsCopies(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for _, verb := range []string{"plan", "check", "apply"} {
		var out strings.Builder
		require.Equal(t, 1, run([]string{"topics", verb, "--brokers=" + c.cfg.Brokers[0]}, console{out: &out, err: &out}), out.String())
		require.Contains(t, out.String(), "the topics of production do not fit this cluster (is it another --env?): 3 copies are declared, but the cluster has 1 brokers: order.created, ")
	}
	require.Empty(t, c.state())
}

func TestTopicsGrow(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.topics(0, "apply")
	require.NoError(t, c.hand.DeleteTopic(topic))
	require.Eventually(t, func() bool { return !slices.Contains(names(c.state()), topic) }, patience, 10*time.Millisecond)
	c.create(topic, 2, map[string]string{"min.insync.replicas": "1", "retention.ms": "1", "max.message.bytes": "1048576"})
	before := c.state()

	out := c.topics(1, "apply")
	require.Contains(t, out, "~ order.created: partitions 2 → 6\n  refused: keys would move to other partitions")
	require.Contains(t, out, "  told how: --grow=drained with the senders stopped, or --grow=anyway\n")
	require.Equal(t, before, c.state(), "the retention neither")

	// A group that has begun and not finished.
	c.send(topic)
	c.send(topic)
	commit := func(offset int64) {
		t.Helper()
		offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {}}
		for p := range int32(2) {
			offsets[topic][p] = sarama.OffsetAndMetadata{Offset: min(offset, c.end(p)), LeaderEpoch: -1}
		}
		_, err := c.hand.AlterConsumerGroupOffsets("analytics", offsets, nil)
		require.NoError(t, err)
	}
	commit(0)
	out = c.topics(1, "apply --grow=drained --hold=10ms")
	require.Contains(t, out, "partitions are not added and nothing was changed, because topics are not drained:\n  order.created: 2 records wait in group analytics\n")
	require.Equal(t, before, c.state())

	// A group that has not begun.
	commit(2)
	sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{Config: c.cfg, Group: "notification", Topics: []string{topic}}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	messages, err := sub.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	one := <-messages
	require.Contains(t, c.topics(1, "apply --grow=drained --hold=10ms"), "order.created: 2 records wait in group notification\n")
	one.Ack()
	(<-messages).Ack()
	require.NoError(t, sub.Close())

	out = c.topics(0, "apply --grow=drained --hold=10ms")
	require.Contains(t, out, "~ order.created: partitions 2 → 6\n")
	require.Contains(t, out, "~ order.created: retention.ms 1ms → 14d\n")
	require.EqualValues(t, 6, c.state()[topic].NumPartitions)
	c.topics(0, "check")
}

func TestTopicsDoNotGrowWhileSomebodySends(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.create(topic, 2, map[string]string{"max.message.bytes": "1048576"})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				c.send(topic)
			}
		}
	}()
	out := c.topics(1, "apply --grow=drained --hold=1s")
	close(stop)
	<-stopped
	require.Contains(t, out, "order.created: records were appended within 1s\n")
	require.Len(t, c.state(), 1)

	out = c.topics(0, "apply --grow=anyway")
	require.Contains(t, out, "~ order.created: partitions 2 → 6\n")
	require.EqualValues(t, 6, c.state()[topic].NumPartitions)
	require.Len(t, c.state(), 27)
}

func (c testCluster) end(partition int32) int64 {
	c.t.Helper()
	answers, err := c.hand.ListOffsets(map[string]map[int32]int64{topic: {partition: sarama.OffsetNewest}}, nil)
	require.NoError(c.t, err)
	return answers[topic][partition].Offset
}

func names(topics map[string]sarama.TopicDetail) []string {
	var all []string
	for name := range topics {
		all = append(all, name)
	}
	return all
}
