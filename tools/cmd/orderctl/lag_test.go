package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// kafkaWith is a broker with topics of two partitions, and a client to bring it into a state.
func kafkaWith(t *testing.T, topics ...string) (brokers string, client sarama.Client, admin sarama.ClusterAdmin) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	settings := kafka.Config{Brokers: fake.ListenAddrs()}.Sarama()
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	client, err = sarama.NewClient(fake.ListenAddrs(), settings)
	require.NoError(t, err)
	admin, err = sarama.NewClusterAdminFromClient(client)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	return strings.Join(fake.ListenAddrs(), ","), client, admin
}

func put(t *testing.T, client sarama.Client, topic string, partition int32, at ...time.Time) {
	t.Helper()
	p, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, when := range at {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder("v"), Timestamp: when})
		require.NoError(t, err)
	}
}

func commits(t *testing.T, admin sarama.ClusterAdmin, group, topic string, partition int32, offset int64) {
	t.Helper()
	_, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: {Offset: offset}}}, nil)
	require.NoError(t, err)
}

// orderctl runs a command line.
func orderctl(args ...string) (code int, out string) {
	var text strings.Builder
	code = run(args, console{out: &text, err: &text})
	return code, text.String()
}

var seconds = regexp.MustCompile(`m\d+s$`)

// fields are a table's rows, columns apart, without the seconds of an age.
func fields(out string) [][]string {
	var rows [][]string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Fields(seconds.ReplaceAllString(strings.TrimSpace(line), "m")))
	}
	return rows
}

func TestLag(t *testing.T) {
	t.Parallel()
	brokers, client, admin := kafkaWith(t, events.TopicOrderCreated, events.TopicOrderConfirmed, "analytics.redrive", "else")
	old := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	put(t, client, events.TopicOrderCreated, 0, old, old.Add(time.Minute), old.Add(time.Hour))
	put(t, client, events.TopicOrderCreated, 1, time.Now())
	commits(t, admin, "analytics", events.TopicOrderCreated, 0, 1)
	commits(t, admin, "analytics.beside", events.TopicOrderCreated, 1, 1)
	commits(t, admin, "others", "else", 0, 0)

	code, out := orderctl("lag", "--brokers="+brokers)
	require.Zero(t, code, out)
	rows := fields(out)
	require.Contains(t, rows, []string{"analytics", "Empty", "0", "order.created", "3", "0:", "2", "1h59m"})
	require.Contains(t, rows, []string{"analytics.beside", "Empty", "0", "order.created", "3", "0:", "3", "2h0m"})
	require.Contains(t, rows, []string{"analytics", "Empty", "0", "order.confirmed", "0", "-", "-"})
	require.Contains(t, rows, []string{"payment", "Dead", "0", "-"}, "its topics are not there")
	require.NotContains(t, out, "others")
	require.Contains(t, out, "analytics: 3 records wait and nobody reads them, the group has no members (Empty). Start the analytics service")
	require.Contains(t, out, "notification: 4 records wait", "it never came, and everything waits")

	code, out = orderctl("lag", "--brokers="+brokers, "--group=analytics", "--group=others", "--partitions")
	require.Zero(t, code, out)
	rows = fields(out)
	require.Contains(t, rows, []string{"analytics", "Empty", "0", "order.created", "0", "1", "3", "2", "1h59m"})
	require.Equal(t, []string{"analytics", "Empty", "0", "order.created", "1", "-", "1", "1"}, rows[slices.IndexFunc(rows, func(r []string) bool {
		return len(r) > 4 && r[3] == "order.created" && r[4] == "1"
	})][:8])
	require.Contains(t, rows, []string{"others", "Empty", "0", "else", "0", "0", "0", "0", "-"})
	require.NotContains(t, out, "notification")

	code, out = orderctl("lag", "--brokers="+brokers, "--group=analytics", "--json")
	require.Zero(t, code, out)
	var report lagReport
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	require.Len(t, report.Groups, 1)
	require.EqualValues(t, 3, report.Groups[0].Lag)
	require.Len(t, report.Hints, 1)
	first := report.Groups[0].Partitions[slices.IndexFunc(report.Groups[0].Partitions, func(p partitionJSON) bool {
		return p.Topic == events.TopicOrderCreated
	})]
	require.EqualValues(t, 1, *first.Current)
	require.InDelta(t, time.Since(old.Add(time.Minute)).Seconds(), *first.Age, 30)
}

// What does not move is named with its place, and what was deleted unread.
func TestLagHints(t *testing.T) {
	t.Parallel()
	l := lagCmd{Old: time.Minute}
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	waiting := kafka.PartitionLag{Topic: "t", Partition: 3, Committed: 7, End: 9, Lag: 2, Oldest: now.Add(-time.Hour)}
	deleted := kafka.PartitionLag{Topic: "t", Committed: 2, Start: 5, End: 5, Lag: 3}
	marker := kafka.PartitionLag{Topic: "t", Committed: 5, End: 6, Lag: 1}
	for _, tc := range []struct {
		name  string
		group kafka.GroupLag
		says  []string
	}{
		{"stuck", kafka.GroupLag{Group: "order", State: "Stable", Members: 1, Partitions: []kafka.PartitionLag{waiting}},
			[]string{"order: t, partition 3: the record at offset 7 has waited for 1h0m0s, since 2026-03-04T11:00:00Z."}},
		{"nobody", kafka.GroupLag{Group: "x", State: "Empty", Partitions: []kafka.PartitionLag{waiting}},
			[]string{"x: 2 records wait and nobody reads them, the group has no members (Empty). Start its service"}},
		{"a replay", kafka.GroupLag{Group: "order.x", State: "Dead", Partitions: []kafka.PartitionLag{waiting}},
			[]string{"Start the order service with REPLAY_GROUP=order.x;"}},
		{"its index", kafka.GroupLag{Group: "order.dlq.index", State: "Dead", Partitions: []kafka.PartitionLag{waiting}},
			[]string{"Start the order service;"}},
		{"deleted", kafka.GroupLag{Group: "order", State: "Stable", Members: 1, Partitions: []kafka.PartitionLag{deleted}},
			[]string{"order: t, partition 0: 3 records were deleted before they were read, up to offset 5."}},
		{"marker", kafka.GroupLag{Group: "order", State: "Empty", Partitions: []kafka.PartitionLag{marker}}, nil},
		{"young", kafka.GroupLag{Group: "order", State: "Stable", Members: 1, Partitions: []kafka.PartitionLag{
			{Topic: "t", End: 1, Lag: 1, Oldest: now.Add(-time.Second)}}}, nil},
		{"unknown", kafka.GroupLag{Group: "order", State: "Stable", Members: 1, Partitions: []kafka.PartitionLag{
			{Topic: "t", End: 1, Lag: 1, Unknown: true}}}, nil},
	} {
		hints := l.hints([]kafka.GroupLag{tc.group}, now)
		require.Len(t, hints, len(tc.says), tc.name)
		for i, says := range tc.says {
			require.Contains(t, hints[i], says, tc.name)
		}
	}
}
