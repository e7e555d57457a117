package kafka_test

import (
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// tool is sarama's own client, to bring a cluster into a state.
func tool(t *testing.T, cfg kafka.Config) (sarama.Client, sarama.ClusterAdmin) {
	t.Helper()
	settings := cfg.Sarama()
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	client, err := sarama.NewClient(cfg.Brokers, settings)
	require.NoError(t, err)
	a, err := sarama.NewClusterAdminFromClient(client)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return client, a
}

func commit(t *testing.T, a sarama.ClusterAdmin, group, topic string, partition int32, offset int64) {
	t.Helper()
	_, err := a.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: {Offset: offset}}}, nil)
	require.NoError(t, err)
}

// at are records of one partition, one batch each, with these timestamps and bodies of so many bytes.
func produce(t *testing.T, client sarama.Client, topic string, partition int32, size int, at ...time.Time) {
	t.Helper()
	p, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, when := range at {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Partition: partition, Timestamp: when, Value: sarama.ByteEncoder(make([]byte, size)),
		})
		require.NoError(t, err)
	}
}

func lagOf(t *testing.T, a *kafka.Admin, groups map[string][]string) []kafka.GroupLag {
	t.Helper()
	lags, err := a.Lag(t.Context(), groups)
	require.NoError(t, err)
	return lags
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func TestLag(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 2, "topic", "other")
	client, tools := tool(t, cfg)
	produce(t, client, "topic", 0, 10, noon, noon.Add(time.Minute), noon.Add(2*time.Minute))
	produce(t, client, "topic", 1, 10, noon.Add(time.Hour))
	a := admin(t, cfg)

	// Of a group that does not exist everything waits, where it is said to read.
	require.Equal(t, []kafka.GroupLag{{Group: "group", State: "Dead"}}, lagOf(t, a, map[string][]string{"group": nil}))
	require.Equal(t, []kafka.GroupLag{{Group: "group", State: "Dead"}}, lagOf(t, a, map[string][]string{"group": {"no such topic"}}))
	require.Equal(t, []kafka.GroupLag{{Group: "group", State: "Dead", Partitions: []kafka.PartitionLag{
		{Topic: "topic", Partition: 0, Committed: -1, End: 3, Lag: 3, Oldest: noon},
		{Topic: "topic", Partition: 1, Committed: -1, End: 1, Lag: 1, Oldest: noon.Add(time.Hour)},
	}}}, lagOf(t, a, map[string][]string{"group": {"topic", "no such topic"}}))

	// Its commits count, whoever says where it reads; two groups on one partition do not disturb each other.
	commit(t, tools, "group", "topic", 0, 1)
	commit(t, tools, "second", "topic", 0, 2)
	commit(t, tools, "second", "topic", 1, 1)
	require.Equal(t, []kafka.GroupLag{
		{Group: "group", State: "Empty", Partitions: []kafka.PartitionLag{
			{Topic: "other", Partition: 0, Committed: -1}, {Topic: "other", Partition: 1, Committed: -1},
			{Topic: "topic", Partition: 0, Committed: 1, End: 3, Lag: 2, Oldest: noon.Add(time.Minute)},
			{Topic: "topic", Partition: 1, Committed: -1, End: 1, Lag: 1, Oldest: noon.Add(time.Hour)},
		}},
		{Group: "second", State: "Empty", Partitions: []kafka.PartitionLag{
			{Topic: "topic", Partition: 0, Committed: 2, End: 3, Lag: 1, Oldest: noon.Add(2 * time.Minute)},
			{Topic: "topic", Partition: 1, Committed: 1, End: 1},
		}},
	}, lagOf(t, a, map[string][]string{"second": nil, "group": {"other"}}))

	// A member is seen, and what it is assigned, before it has committed anything.
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Group: "live", Topics: []string{"topic"}})
	receive(t, subscribe(t, s, "topic"))
	live := lagOf(t, a, map[string][]string{"live": nil})[0]
	require.Equal(t, "Stable", live.State)
	require.Equal(t, 1, live.Members)
	require.Len(t, live.Partitions, 2)
	require.EqualValues(t, 3, live.Partitions[0].Lag)
}

func TestAge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lag   kafka.PartitionLag
		age   time.Duration
		known bool
	}{
		"nothing waits":       {kafka.PartitionLag{}, 0, true},
		"unknown":             {kafka.PartitionLag{Lag: 1, Unknown: true}, 0, false},
		"an hour":             {kafka.PartitionLag{Lag: 1, Oldest: noon.Add(-time.Hour)}, time.Hour, true},
		"the sender is ahead": {kafka.PartitionLag{Lag: 1, Oldest: noon.Add(time.Hour)}, 0, true},
	} {
		age, known := tc.lag.Age(noon)
		require.Equal(t, tc.age, age, name)
		require.Equal(t, tc.known, known, name)
	}
}

// The group's place need not be a record's: records were deleted, or the topic was made anew.
func TestLagOutsideOfTheLog(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 2, "topic")
	client, tools := tool(t, cfg)
	produce(t, client, "topic", 0, 10, noon, noon.Add(time.Minute), noon.Add(2*time.Minute), noon.Add(3*time.Minute))
	commit(t, tools, "group", "topic", 0, 1)
	commit(t, tools, "group", "topic", 1, 77)
	require.NoError(t, tools.DeleteRecords("topic", map[int32]int64{0: 3}))
	a := admin(t, cfg)
	partitions := lagOf(t, a, map[string][]string{"group": nil})[0].Partitions
	require.Equal(t, []kafka.PartitionLag{
		{Topic: "topic", Partition: 0, Committed: 1, Start: 3, End: 4, Lag: 3, Oldest: noon.Add(3 * time.Minute)},
		{Topic: "topic", Partition: 1, Committed: 77},
	}, partitions)
	require.EqualValues(t, 2, partitions[0].Deleted())
	require.Zero(t, partitions[1].Deleted())

	// All that waited is gone: the offsets still count, as they do for Kafka's tools, and nothing waits.
	require.NoError(t, tools.DeleteRecords("topic", map[int32]int64{0: 4}))
	require.Equal(t, kafka.PartitionLag{Topic: "topic", Committed: 1, Start: 4, End: 4, Lag: 3},
		lagOf(t, a, map[string][]string{"group": nil})[0].Partitions[0])
}

// A transaction's marker takes an offset, and nobody gets to see it.
func TestLagOfMarkers(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	settings := cfg.Sarama()
	settings.Producer.Transaction.ID = "transactions"
	p, err := sarama.NewSyncProducer(cfg.Brokers, settings)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	transaction := func(at time.Time) {
		require.NoError(t, p.BeginTxn())
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "topic", Value: sarama.StringEncoder("v"), Timestamp: at})
		require.NoError(t, err)
		require.NoError(t, p.CommitTxn())
	}
	transaction(noon) // record 0, marker 1
	_, tools := tool(t, cfg)
	commit(t, tools, "group", "topic", 0, 1)
	a := admin(t, cfg)
	require.Equal(t, kafka.PartitionLag{Topic: "topic", Committed: 1, End: 2, Lag: 1},
		lagOf(t, a, map[string][]string{"group": nil})[0].Partitions[0])
	// What was rolled back is not what waits.
	require.NoError(t, p.BeginTxn())
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: "topic", Value: sarama.StringEncoder("v"), Timestamp: noon})
	require.NoError(t, err)
	require.NoError(t, p.AbortTxn())
	require.Equal(t, kafka.PartitionLag{Topic: "topic", Committed: 1, End: 4, Lag: 3},
		lagOf(t, a, map[string][]string{"group": nil})[0].Partitions[0])
	transaction(noon.Add(time.Hour))
	require.Equal(t, kafka.PartitionLag{Topic: "topic", Committed: 1, End: 6, Lag: 5, Oldest: noon.Add(time.Hour)},
		lagOf(t, a, map[string][]string{"group": nil})[0].Partitions[0])
}

// Lag is known when the oldest record is not, and says so.
func TestOldestUnknown(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	client, _ := tool(t, cfg)
	produce(t, client, "topic", 0, 10, noon)
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		response := request.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "topic"
		partition := kmsg.NewFetchResponseTopicPartition()
		partition.ErrorCode = int16(sarama.ErrOffsetOutOfRange)
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	a := admin(t, cfg)
	require.Equal(t, kafka.PartitionLag{Topic: "topic", Committed: -1, End: 1, Lag: 1, Unknown: true},
		lagOf(t, a, map[string][]string{"group": {"topic"}})[0].Partitions[0])
	require.Equal(t, noon, lagOf(t, a, map[string][]string{"group": {"topic"}})[0].Partitions[0].Oldest)
}

// What it costs does not grow with groups and partitions.
func TestLagIsCheap(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 40, "topic", "second")
	client, tools := tool(t, cfg)
	for p := range int32(40) {
		produce(t, client, "topic", p, 200<<10, noon) // larger than the first look
	}
	groups := map[string][]string{"a": {"topic", "second"}, "b": {"second"}, "c": {"topic"}}
	for group := range groups {
		commit(t, tools, group, "second", 0, 0)
	}
	a := admin(t, cfg)
	lagOf(t, a, groups)
	var mu sync.Mutex
	asked := map[string]int{}
	cluster.Control(func(request kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		asked[kmsg.NameForKey(request.Key())]++
		cluster.KeepControl()
		return nil, nil, false
	})
	for _, g := range lagOf(t, a, groups) {
		for _, p := range g.Partitions {
			_, known := p.Age(noon)
			require.True(t, known, p)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, asked["DescribeGroups"])
	require.Equal(t, 1, asked["OffsetFetch"])
	require.Equal(t, 1, asked["Metadata"])
	require.Equal(t, 2, asked["ListOffsets"])
	require.LessOrEqual(t, asked["Fetch"], 8)
	total := 0
	for _, n := range asked {
		total += n
	}
	require.LessOrEqual(t, total, 13, asked)
}
