package inject_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/faults/inject"
)

func TestRecordsComeAgainAsTheyWere(t *testing.T) {
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Config{Topics: []kafka.Topic{{Name: "a", Partitions: 2}, {Name: "empty", Partitions: 1}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stack.Stop()) })
	settings := sarama.NewConfig()
	settings.Producer.Return.Successes, settings.Producer.Partitioner = true, sarama.NewManualPartitioner
	client, err := sarama.NewClient(stack.Brokers(), settings)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	producer, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	at := time.UnixMilli(1_700_000_000_000)
	for _, key := range []string{"first", "second", "third"} {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: "a", Partition: 1, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder("of " + key), Timestamp: at,
			Headers: []sarama.RecordHeader{{Key: []byte("ce_id"), Value: []byte(key)}, {Key: []byte("ce_id"), Value: []byte("twice")}},
		})
		require.NoError(t, err)
	}
	require.NoError(t, producer.Close())

	records, err := inject.OpenRecords(stack.Brokers())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	none, err := records.Newest(t.Context(), "empty", 10)
	require.NoError(t, err)
	require.Empty(t, none)
	newest, err := records.Newest(t.Context(), "a", 2)
	require.NoError(t, err)
	require.Len(t, newest, 2)
	require.EqualValues(t, 1, newest[0].Offset)
	require.NoError(t, records.Send(newest[1], newest[0]), "the older after the newer")
	require.NoError(t, records.Send(newest[0]))

	consumer, err := sarama.NewConsumerFromClient(client)
	require.NoError(t, err)
	partition, err := consumer.ConsumePartition("a", 1, sarama.OffsetOldest)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, partition.Close()) })
	var all []*sarama.ConsumerMessage
	for len(all) < 6 {
		select {
		case m := <-partition.Messages():
			all = append(all, m)
		case <-time.After(soon):
			require.FailNow(t, "records are missing", "%d are there", len(all))
		}
	}
	for i, original := range []int{2, 1, 1} {
		want, got := all[original], all[3+i]
		require.Equal(t, string(want.Key), string(got.Key))
		require.Equal(t, want.Value, got.Value)
		require.Equal(t, want.Headers, got.Headers)
		require.Equal(t, want.Timestamp, got.Timestamp)
	}
}

func TestShuffledAreTheSameInAnotherOrder(t *testing.T) {
	t.Parallel()
	var records []inject.Record
	for i := range 20 {
		records = append(records, inject.Record{Offset: int64(i)})
	}
	by := func(seed uint64) []inject.Record { return inject.Shuffled(records, rand.New(rand.NewPCG(seed, 0))) }
	require.ElementsMatch(t, records, by(1))
	require.Equal(t, by(1), by(1))
	require.NotEqual(t, by(1), by(2))
	require.False(t, slices.IsSortedFunc(by(1), func(a, b inject.Record) int { return int(a.Offset - b.Offset) }))
}
