//go:build native

package profiles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/native"
	"github.com/orderflow/orderflow/tools/stack"
)

// debezium is Kafka Connect with Debezium's connector.
type debezium struct {
	brokers  []string
	postgres *url.URL
	connect  string
}

// startDebezium starts Kafka Connect as the image does: it makes the worker's settings of the environment, and those that
// the image names shortly it gives their prefix.
func startDebezium(t *testing.T, s *stack.Stack, c composed, libs, plugin string) *debezium {
	t.Helper()
	require.FileExists(t, filepath.Join(plugin, "COPYRIGHT.txt"), "Debezium's connector: run this with `make test-profiles-native`")
	d := &debezium{brokers: s.Brokers()}
	for _, variable := range s.Env() {
		if text, ok := strings.CutPrefix(variable, "POSTGRES_URL="); ok {
			var err error
			d.postgres, err = url.Parse(text)
			require.NoError(t, err)
		}
	}
	require.NotNil(t, d.postgres)
	address := port(t)
	d.connect = "http://" + address
	settings := map[string]string{
		// What connect-distributed.properties says in the image.
		"offset.storage.replication.factor": "1", "config.storage.replication.factor": "1", "status.storage.replication.factor": "1",
		"plugin.path": filepath.Dir(plugin), "listeners": d.connect,
	}
	heap := ""
	for name, value := range c.Environment {
		if name == "HEAP_OPTS" {
			heap = value
			continue
		}
		settings[strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "CONNECT_")), "_", ".")] = value
	}
	settings["bootstrap.servers"] = strings.Join(d.brokers, ",")
	var text strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	file := filepath.Join(t.TempDir(), "connect-distributed.properties")
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	command, err := native.Java(libs, append(strings.Fields(heap), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "org.apache.kafka.connect.cli.ConnectDistributed", file)...)
	require.NoError(t, err)
	run(t, "connect", "exit status 143", command...)
	return d
}

// reads waits for Kafka Connect, has Compose's script tell it of the services, and waits until it reads the log of each.
func (d *debezium) reads(t *testing.T) {
	t.Helper()
	eventually(t, "Kafka Connect answers", func() error { return get(t, d.connect+"/connectors", &[]string{}) })
	password, _ := d.postgres.User.Password()
	for range 2 { // told again, nothing changes
		eventually(t, "the connectors are taken", func() error {
			script := exec.CommandContext(t.Context(), "bash", filepath.Join(root, "deploy/debezium/connectors.sh"))
			script.Env = append(os.Environ(), "CONNECT_URL="+d.connect, "POSTGRES_HOST="+d.postgres.Hostname(), "POSTGRES_PORT="+d.postgres.Port(), "POSTGRES_PASSWORD="+password)
			if out, err := script.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	db, err := pgx.Connect(t.Context(), d.postgres.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(t.Context())) }()
	eventually(t, "Debezium reads every database", func() error {
		var n int
		err := db.QueryRow(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'cdc_%' AND active`).Scan(&n)
		if err == nil && n != len(client.Services()) {
			err = fmt.Errorf("%d do", n)
		}
		return err
	})
}

// copies: whatever a relay sent to a topic is in its copy, with partition, key, bytes and headers, and in the order of its key.
func (d *debezium) copies(t *testing.T) {
	cfg := kafka.Config{Brokers: d.brokers, ClientID: "profiles"}
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	// By key, and of each key in the order of the topic.
	read := func(topic string) (all []kafka.Record, err error) {
		ranges, err := admin.Ranges(t.Context(), topic)
		if err != nil {
			return nil, err
		}
		err = kafka.Read(t.Context(), cfg, topic, ranges, func(r kafka.Record) { all = append(all, r) })
		slices.SortStableFunc(all, func(a, b kafka.Record) int { return bytes.Compare(a.Key, b.Key) })
		return all, err
	}
	for _, topic := range []string{
		"order.created", "order.confirmed", "order.cancelled", "inventory.commands", "inventory.reserved", "inventory.released",
		"payment.commands", "payment.charged", "payment.declined", "shipping.commands", "shipping.arranged",
	} {
		var sent, copied []kafka.Record
		eventually(t, "cdc."+topic, func() error {
			relayed, err := read(topic)
			if err != nil {
				return err
			}
			// It is made with its first record.
			copies, err := read("cdc." + topic)
			// Either may send one twice.
			sent, copied = once(relayed, "ce_id"), once(copies, "id")
			if err == nil && len(copied) != len(sent) {
				err = fmt.Errorf("has %d records, not %d", len(copied), len(sent))
			}
			return err
		})
		require.NotEmpty(t, sent, topic)
		for i, want := range sent {
			got := copied[i]
			require.Equal(t, want.Partition, got.Partition, topic)
			require.Equal(t, string(want.Key), string(got.Key), topic)
			require.True(t, bytes.Equal(want.Value, got.Value), "%s: %s\nis not %s", topic, got.Value, want.Value)
			var headers map[string]string
			require.NoError(t, json.Unmarshal([]byte(got.Headers["headers"]), &headers), topic)
			require.Equal(t, want.Headers, headers, topic)
			require.Equal(t, map[string]string{"id": headers["ce_id"], "headers": got.Headers["headers"]}, got.Headers, topic)
		}
		t.Logf("cdc.%s: %d records, the same as the relay's", topic, len(copied))
	}
}

// once leaves out records whose id, in the header of that name, was there before.
func once(records []kafka.Record, id string) []kafka.Record {
	seen := map[string]bool{}
	return slices.DeleteFunc(records, func(r kafka.Record) bool {
		double := seen[r.Headers[id]]
		seen[r.Headers[id]] = true
		return double
	})
}
