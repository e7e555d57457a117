//go:build cluster

package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// tool runs one of Kafka's own tools, of the jars that KAFKA_LIBS names.
func tool(t *testing.T, class string, args ...string) string {
	t.Helper()
	libs := os.Getenv("KAFKA_LIBS")
	require.NotEmpty(t, libs, "KAFKA_LIBS must be the folder of Kafka's jars")
	cmd := exec.CommandContext(t.Context(), "java", append([]string{
		"-cp", filepath.Join(libs, "*"), "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", class,
		"--bootstrap-server", strings.Join(cluster.Brokers, ","),
	}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s\n%s", out.String(), errs.String())
	return out.String()
}

// Kafka's own tools read what is written here, and count a group's lag as we do.
func TestKafkaToolsAgree(t *testing.T) {
	const partitions, sent, handled = 3, 30, 12
	topic, group := broker.Name(), broker.Name()
	broker.Create(t, cluster, kafka.Topic{Name: topic, Partitions: partitions, Replication: 3})
	p := publisher(t, kafka.EffectivelyOnce)
	factory := event.NewFactory("/tests")
	var batch []event.Addressed
	for n := range sent {
		e, err := factory.New(t.Context(), "test.happened", fmt.Sprintf("key-%d", n), map[string]int{"n": n})
		require.NoError(t, err)
		batch = append(batch, event.Addressed{Topic: topic, Event: e})
	}
	for _, err := range p.SendBatch(t.Context(), batch) {
		require.NoError(t, err)
	}
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Config: cluster, Group: group, Topics: []string{topic}, MaxInFlight: 1}, quiet)
	require.NoError(t, err)
	messages, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	for range handled {
		(<-messages).Ack()
	}
	require.NoError(t, s.Close())

	admin, err := kafka.NewAdmin(cluster)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	lags, err := admin.Lag(t.Context(), map[string][]string{group: {topic}})
	require.NoError(t, err)
	var ours []string
	total := int64(0)
	for _, l := range lags[0].Partitions {
		total += l.Lag
		if l.Committed >= 0 { // without a commit the tool leaves a partition out
			ours = append(ours, fmt.Sprint(l.Topic, l.Partition, l.Committed, l.End, l.Lag))
		}
	}
	require.GreaterOrEqual(t, total, int64(sent-handled-partitions), "at most one a partition was in hand")
	require.LessOrEqual(t, total, int64(sent-handled))
	require.NotEmpty(t, ours)

	described := tool(t, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--group", group)
	var theirs []string
	for _, row := range regexp.MustCompile(`(?m)^`+group+`\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)`).FindAllStringSubmatch(described, -1) {
		var n [4]int64
		for i, text := range row[2:6] {
			n[i], err = strconv.ParseInt(text, 10, 64)
			require.NoError(t, err)
		}
		theirs = append(theirs, fmt.Sprint(row[1], n[0], n[1], n[2], n[3]))
	}
	require.ElementsMatch(t, theirs, ours, described)

	require.Regexp(t, `PartitionCount: 3\s+ReplicationFactor: 3`, tool(t, "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", topic))
	printed := tool(t, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", topic, "--from-beginning",
		"--max-messages", strconv.Itoa(sent), "--timeout-ms", "30000",
		"--formatter-property", "print.key=true", "--formatter-property", "print.headers=true")
	for _, a := range batch {
		require.Regexp(t, `ce_id:`+a.Event.ID+`\b.*`+a.Event.Key+`\t`+regexp.QuoteMeta(string(a.Event.Data))+`\n`, printed)
	}
}
