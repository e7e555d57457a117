//go:build cluster

package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

var (
	// cluster is the one under test, control what kills its brokers.
	cluster kafka.Config
	control string
	quiet   = slog.New(slog.DiscardHandler)
)

func TestMain(m *testing.M) {
	if err := configure(); err != nil {
		fmt.Fprintf(os.Stderr, "These tests kill brokers of a cluster of three and are told by the environment where it is:\n%v\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func configure() error {
	var errs []error
	var err error
	if cluster, err = broker.FromEnv(); err != nil {
		errs = append(errs, err)
	} else if len(cluster.Brokers) != 3 {
		errs = append(errs, fmt.Errorf("KAFKA_BROKERS is %q, must be three brokers", os.Getenv("KAFKA_BROKERS")))
	}
	control = strings.TrimSuffix(os.Getenv("CONTROL_URL"), "/")
	if u, err := url.Parse(control); err != nil || u.Host == "" {
		errs = append(errs, fmt.Errorf("CONTROL_URL is %q, must be the URL of what kills and restarts brokers, such as http://127.0.0.1:8099", control))
	}
	return errors.Join(errs...)
}

// topic creates a topic of one partition, and waits until all its replicas are in sync.
func topic(t *testing.T, replicas int16, inSync string) string {
	t.Helper()
	name := broker.Name()
	eventually(t, "all brokers are there", func() bool { return len(alive()) == 3 })
	broker.Create(t, cluster, kafka.Topic{
		Name: name, Partitions: 1, Replication: replicas, Configs: map[string]string{"min.insync.replicas": inSync},
	})
	eventually(t, "all replicas are in sync", func() bool {
		p := described(name)
		return p != nil && p.Leader > 0 && len(p.Isr) == int(replicas)
	})
	return name
}

// described is the only partition of a topic, as a broker that answers knows it.
func described(topic string) *sarama.PartitionMetadata {
	settings := cluster.Sarama()
	settings.Metadata.Retry.Max = 0
	admin, err := sarama.NewClusterAdmin(cluster.Brokers, settings)
	if err != nil {
		return nil
	}
	defer func() { _ = admin.Close() }()
	topics, err := admin.DescribeTopics([]string{topic})
	if err != nil || len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return nil
	}
	return topics[0].Partitions[0]
}

// alive are the addresses of brokers that take connections.
func alive() (addresses []string) {
	for _, address := range cluster.Brokers {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// kill kills a broker; it is started again at the end of the test, or by the function returned.
func kill(t *testing.T, id int32) (restart func()) {
	t.Helper()
	post(t, "kill", id)
	eventually(t, "it is dead", func() bool { return len(alive()) == 2 })
	done := false
	restart = func() {
		if !done {
			done = true
			post(t, "restart", id)
			eventually(t, "it is back", func() bool { return len(alive()) == 3 })
		}
	}
	t.Cleanup(restart)
	return restart
}

func post(t *testing.T, verb string, id int32) {
	t.Helper()
	response, err := http.Post(fmt.Sprintf("%s/%s/kafka-%d", control, verb, id), "", nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Less(t, response.StatusCode, 300, "%s kafka-%d", verb, id)
}

func publisher(t *testing.T, g kafka.Guarantee) *kafka.Publisher {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cluster, Guarantee: g}, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func record(topic, value string) kafka.Record {
	return kafka.Record{Topic: topic, Key: []byte(value), Value: []byte(value)}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, broker.Patience, broker.Tick, what)
}
