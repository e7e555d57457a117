package bench

import (
	"os"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/stack"
)

// TestEndsAreReadFromKafka: what is sent after follow reaches whoever waits, what was there before reaches nobody, and the
// topics have grown by it.
func TestEndsAreReadFromKafka(t *testing.T) {
	t.Parallel()
	topics, err := stack.Topics("development")
	require.NoError(t, err)
	dev, err := devstack.Start(t.Context(), devstack.Config{Topics: topics})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dev.Stop()) })
	cfg := kafka.Config{Brokers: dev.Brokers()}.Sarama()
	client, err := sarama.NewClient(dev.Brokers(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	producer, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, producer.Close()) })
	send := func(topic, key string) {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(make([]byte, 1000)),
		})
		require.NoError(t, err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	require.NoError(t, err)
	m := &meter{client: client, admin: admin, roots: map[string]int{driver: os.Getpid()}, self: driver}

	send("order.confirmed", "old")
	before, err := m.read(t.Context())
	require.NoError(t, err)
	ends := newTracker()
	l, err := followEnds(dev.Brokers(), ends)
	require.NoError(t, err)
	began := time.Now()
	confirmed, _ := ends.await("a")
	cancelled, _ := ends.await("b")
	old, _ := ends.await("old")
	send("order.confirmed", "a")
	send("order.cancelled", "b")
	send("order.created", "old")
	for ch, want := range map[<-chan end]bool{confirmed: true, cancelled: false} {
		select {
		case e := <-ch:
			require.Equal(t, want, e.confirmed)
			require.True(t, e.at.After(began))
		case <-time.After(20 * time.Second):
			t.Fatal("an end was not read")
		}
	}
	require.NoError(t, l.close())
	require.Empty(t, old)

	after, err := m.read(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 3000, after.topics-before.topics, 600, "three records and their batches")
	require.Zero(t, after.wal)
	stop := m.watch()
	peaks, err := stop()
	require.NoError(t, err)
	require.Greater(t, peaks[driver], int64(5<<20), "bytes")
}
