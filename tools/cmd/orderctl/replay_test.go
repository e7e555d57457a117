package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	// Nothing listens there: what is wrong is said before anything is asked.
	const base = "replay --brokers=127.0.0.1:1 --wait=1ms "
	for _, tc := range []struct {
		args, says string
		code       int
	}{
		{"--topic=order.created --from=0", "missing flags: --group=STRING", 2},
		{"--group=nobody --topic=order.created --from=0", `--group is "nobody", must be one of order, inventory`, 1},
		{"--group=analytics --from=0", "--topic is missing: analytics receives order.created, order.confirmed, order.cancelled", 1},
		{"--group=analytics --topic=payment.commands --from=0", "analytics does not receive payment.commands; it receives order.created", 1},
		{"--group=analytics --topic=analytics.dlq --from=0", "analytics does not receive analytics.dlq", 1},
		{"--group=analytics --topic=order.created", "--from is missing", 1},
		{"--group=analytics --topic=order.created --from=0 --as=payment.replay", `--as is "payment.replay", must be analytics.<name>`, 1},
		{"--group=analytics --topic=order.created --from=0 --as=analytics", "must be analytics.<name>", 1},
		{"--group=analytics --topic=order.created --from=0 --rate=-1", "--rate is -1", 1},
		{"--group=analytics --topic=order.created --from=0 --live", "--live wants --inbox: 'skip' drops what analytics has handled", 1},
		{"--group=analytics --topic=order.created --from=0 --live --inbox=maybe", `--inbox is "maybe", must be skip or again`, 1},
		{"--group=analytics --topic=order.created --from=0 --live --as=analytics.x --inbox=skip", "choose one", 1},
		{"--group=analytics --topic=order.created --from=0 --inbox=again", "--inbox goes with --live", 1},
		{"--group=analytics --cleanup --live", "never that", 1},
		{"--group=analytics --cleanup --from=0", "--cleanup takes --group", 1},
		{"--group=analytics --topic=order.created --from=0", "reach Kafka at [127.0.0.1:1] within 1ms", 1},
	} {
		code, out := orderctl(strings.Fields(base + tc.args)...)
		require.Equal(t, tc.code, code, out)
		require.Contains(t, out, tc.says, tc.args)
	}
	require.Contains(t, func() string { _, out := orderctl("replay", "--help"); return out }(), "REPLAY_GROUP=<group>.replay")
}

func TestReplayRefusesBounds(t *testing.T) {
	t.Parallel()
	brokers, client, _ := kafkaWith(t, events.TopicOrderCreated)
	put(t, client, events.TopicOrderCreated, 0, time.Now())
	for args, says := range map[string]string{
		"--from=5":                          "the beginning: offset 5 is out of range: partition 0 of order.created allows 0 to 1",
		"--from=0:0 --to=0:2":               "the end: offset 2 is out of range: partition 0 of order.created allows 0 to 1",
		"--from=9:0":                        "order.created has no partition 9, it has 0 to 1",
		"--from=soon":                       `--from: "soon" must be a time`,
		"--from=0 --to=2999-01-01":          `--to: "2999-01-01" must be a time`,
		"--from=0 --id=a/b":                 "the replay's id",
		"--from=oldest --live --inbox=skip": "the group's topics analytics.dlq, analytics.redrive are not there",
	} {
		code, out := orderctl(append([]string{"replay", "--brokers=" + brokers, "--group=analytics", "--topic=order.created"}, strings.Fields(args)...)...)
		require.Equal(t, 1, code, out)
		require.Contains(t, out, says, args)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	brokers, client, admin := kafkaWith(t, events.TopicOrderCreated, "analytics.redrive", "analytics.dlq")
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	put(t, client, events.TopicOrderCreated, 0, at, at.Add(time.Minute), at.Add(2*time.Minute))
	put(t, client, events.TopicOrderCreated, 1, at.Add(time.Hour))
	command := []string{"replay", "--brokers=" + brokers, "--group=analytics", "--topic=order.created", "--id=r1", "--from=2026-03-04T12:01:00Z"}
	topics := func() []string {
		all, err := admin.ListTopics()
		require.NoError(t, err)
		names := make([]string, 0, len(all))
		for name := range all {
			if !strings.HasPrefix(name, "__") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	groups := func() int {
		all, err := admin.ListConsumerGroups()
		require.NoError(t, err)
		return len(all)
	}
	before := topics()

	code, out := orderctl(append(command, "--dry-run")...)
	require.Zero(t, code, out)
	require.Contains(t, fields(out), []string{"0", "1", "3", "2", "0", "2026-03-04T12:01:00Z", "2026-03-04T12:02:00Z"})
	require.Contains(t, fields(out), []string{"1", "0", "1", "1", "0", "2026-03-04T13:00:00Z", "2026-03-04T13:00:00Z"})
	require.Contains(t, out, "It creates the topic analytics.replay.redrive.")
	require.Contains(t, out, "It creates the topic analytics.replay.dlq.")
	require.Equal(t, before, topics())
	require.Zero(t, groups(), "it writes nothing")

	code, out = orderctl(command...)
	require.Zero(t, code, out)
	require.Contains(t, out, "Copied 3 records to analytics.replay.redrive, replay r1.")
	require.Contains(t, out, "REPLAY_GROUP=analytics.replay DATABASE_URL=<one of its own> KAFKA_BROKERS="+brokers)
	require.Equal(t, append(slices.Clone(before)[:1], "analytics.redrive", "analytics.replay.dlq", "analytics.replay.redrive", "order.created"), topics())
	created, err := client.Partitions("analytics.replay.redrive")
	require.NoError(t, err)
	require.Len(t, created, 6, "as topics.yaml says")

	// Once more with its id: nothing is copied twice. A dead letter of the replay, and one of another, are told apart.
	for _, id := range []string{"r1", "r0"} {
		letter(t, client, id)
	}
	stop := handle(t, brokers)
	code, out = orderctl(append(command, "--json", "--follow")...)
	require.Zero(t, code, out)
	var summary replaySummary
	require.NoError(t, json.Unmarshal([]byte(out[strings.Index(out, "{\n"):]), &summary), out)
	require.EqualValues(t, 3, summary.Offsets)
	require.EqualValues(t, 3, summary.Copied)
	require.Zero(t, summary.Records)
	require.Equal(t, 1, *summary.DeadLetters)

	code, out = orderctl("replay", "--brokers="+brokers, "--group=analytics", "--cleanup", "--id=r1")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "group analytics.replay has 1 members: stop the instance with REPLAY_GROUP=analytics.replay first")
	stop()
	code, out = orderctl("replay", "--brokers="+brokers, "--group=analytics", "--cleanup", "--id=r1")
	require.Zero(t, code, out)
	require.Equal(t, before, topics())
	require.Zero(t, groups())
}

// To the live group nothing is created, and the copies say what the inbox is to do.
func TestReplayLive(t *testing.T) {
	t.Parallel()
	brokers, client, _ := kafkaWith(t, events.TopicOrderCreated, "analytics.redrive", "analytics.dlq")
	put(t, client, events.TopicOrderCreated, 0, time.Now())
	code, out := orderctl("replay", "--brokers="+brokers, "--group=analytics", "--topic=order.created", "--from=oldest", "--live", "--inbox=again", "--id=r1")
	require.Zero(t, code, out)
	require.Contains(t, out, "Copied 1 records to analytics.redrive, replay r1.")
	consumer, err := sarama.NewConsumerFromClient(client)
	require.NoError(t, err)
	records := make(chan *sarama.ConsumerMessage, 2)
	for p := range int32(2) {
		pc, err := consumer.ConsumePartition("analytics.redrive", p, sarama.OffsetOldest)
		require.NoError(t, err)
		t.Cleanup(func() { _ = pc.Close() })
		go func() {
			for m := range pc.Messages() {
				records <- m
			}
		}()
	}
	select {
	case m := <-records:
		headers := map[string]string{}
		for _, h := range m.Headers {
			headers[string(h.Key)] = string(h.Value)
		}
		require.Equal(t, "r1", headers[deadletter.HeaderReplay])
		require.Equal(t, deadletter.ReplayAgain, headers[deadletter.HeaderReplayInbox])
		require.Equal(t, "order.created", headers[deadletter.HeaderTopic])
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no copy")
	}
}

// letter puts a dead letter of a replay on its topic.
func letter(t *testing.T, client sarama.Client, id string) {
	t.Helper()
	p, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	_, _, err = p.SendMessage(&sarama.ProducerMessage{
		Topic: "analytics.replay.dlq", Timestamp: time.Now(), Headers: []sarama.RecordHeader{{Key: []byte(deadletter.HeaderReplay), Value: []byte(id)}},
	})
	require.NoError(t, err)
}

// handle is a group that takes what it is sent, as the service would.
func handle(t *testing.T, brokers string) (stop func()) {
	t.Helper()
	const group = "analytics.replay"
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Config: kafka.Config{Brokers: strings.Split(brokers, ",")}, Group: group, Topics: []string{deadletter.RedriveTopic(group)},
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	messages, err := s.Subscribe(context.Background(), deadletter.RedriveTopic(group))
	require.NoError(t, err)
	go func() {
		for m := range messages {
			m.Ack()
		}
	}()
	t.Cleanup(func() { _ = s.Close() })
	return func() { require.NoError(t, s.Close(), fmt.Sprint(group)) }
}

// On a terminal a bar is drawn in its place and left on a line of its own; elsewhere it is a line now and then.
func TestBar(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	b := &bar{out: &out, what: "letters done", live: true}
	for _, at := range []struct{ done, total int64 }{{0, 0}, {0, 4}, {1, 4}, {4, 4}} {
		b.show(at.done, at.total)
	}
	b.close()
	require.Equal(t, "\r["+strings.Repeat(".", 30)+"] 0 of 4 letters done \x1b[K"+
		"\r[#######"+strings.Repeat(".", 23)+"] 1 of 4 letters done \x1b[K"+
		"\r["+strings.Repeat("#", 30)+"] 4 of 4 letters done \x1b[K\n", out.String())

	out.Reset()
	b = newBar(&out, "letters done")
	b.show(1, 4)
	b.shown = b.shown.Add(-barPause)
	b.show(2, 4)
	b.show(3, 4)
	b.close()
	require.Equal(t, "2 of 4 letters done\n", out.String())
}
