package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// copies sends every record on to topic out.
func copies(_ context.Context, in []kafka.Record) ([]kafka.Record, error) {
	out := make([]kafka.Record, len(in))
	for i, r := range in {
		out[i] = kafka.Record{Topic: "out", Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	return out, nil
}

// transformer runs fn from topic in; stop waits for its end, which is a clean one.
func transformer(t *testing.T, cfg kafka.Config, fn kafka.Transform) (tr *kafka.Transformer, stop func()) {
	t.Helper()
	tr, err := kafka.NewTransformer(kafka.TransformerConfig{Config: cfg, Group: "transform", Topics: []string{"in"}, MaxRecords: 50}, fn, quiet)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the transformer does not stop")
		}
	})
	t.Cleanup(stop)
	return tr, stop
}

func records(t *testing.T, cfg kafka.Config, from, to int) {
	t.Helper()
	p := publisher(t, cfg)
	for n := from; n < to; n++ {
		require.NoError(t, p.SendRecord(t.Context(), kafka.Record{Topic: "in", Key: fmt.Append(nil, n%7), Value: fmt.Append(nil, n)}))
	}
}

// log reads all partitions of topic to their ends and returns the values.
func log(t *testing.T, cfg kafka.Config, topic string, isolation sarama.IsolationLevel) (values []string) {
	t.Helper()
	settings := cfg.Sarama()
	settings.Consumer.IsolationLevel = isolation
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	client, err := sarama.NewClient(cfg.Brokers, settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	consumer, err := sarama.NewConsumerFromClient(client)
	require.NoError(t, err)
	partitions, err := client.Partitions(topic)
	require.NoError(t, err)
	for _, p := range partitions {
		// A record of its own marks the end: a log may end in markers, which no consumer hands out.
		producer, err := sarama.NewSyncProducerFromClient(client)
		require.NoError(t, err)
		_, end, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: p, Value: sarama.StringEncoder("end")})
		require.NoError(t, err)
		require.NoError(t, producer.Close())
		pc, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		require.NoError(t, err)
		for read := false; !read; {
			select {
			case r := <-pc.Messages():
				if read = r.Offset == end; !read && string(r.Value) != "end" {
					values = append(values, string(r.Value))
				}
			case <-time.After(patience):
				require.FailNow(t, "the end of the log does not come", "%s/%d", topic, p)
			}
		}
		require.NoError(t, pc.Close())
	}
	return values
}

func once(n int) (values []string) {
	for i := range n {
		values = append(values, fmt.Sprint(i))
	}
	return values
}

func drained(cluster *cluster, partitions int32, n int) func() bool {
	return func() bool {
		var sum int64
		for p := range partitions {
			sum += max(0, committed(cluster, "transform", "in", p))
		}
		return sum == int64(n)
	}
}

func TestTransformsOnceWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	const n = 600
	cluster, cfg := broker(t, 4, "in", "out")
	_, stop := transformer(t, cfg, copies)
	records(t, cfg, 0, n/3)
	second, stopSecond := transformer(t, cfg, copies)
	require.Eventually(t, second.Joined, patience, tick)
	records(t, cfg, n/3, 2*n/3)
	stop()
	records(t, cfg, 2*n/3, n)
	require.Eventually(t, drained(cluster, 4, n), patience, tick)
	stopSecond()
	require.False(t, second.Joined())
	require.ElementsMatch(t, once(n), log(t, cfg, "out", sarama.ReadCommitted))
}

// What fn did is sent in one transaction with the offset: when fn fails neither is there, and the same records come.
func TestTransformFails(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "in", "out")
	records(t, cfg, 0, 5)
	var calls atomic.Int32
	_, stop := transformer(t, cfg, func(ctx context.Context, in []kafka.Record) ([]kafka.Record, error) {
		if calls.Add(1) == 1 {
			if committed(cluster, "transform", "in", 0) != -1 || string(in[0].Value) != "0" {
				t.Error("not the first call")
			}
			return nil, errors.New("not now")
		}
		return copies(ctx, in)
	})
	require.Eventually(t, drained(cluster, 1, 5), patience, tick)
	stop()
	require.Equal(t, once(5), log(t, cfg, "out", sarama.ReadUncommitted))
}

func TestTransformGivesUpWhatIsPermanent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fn   kafka.Transform
		says string
	}{
		"refused": {func(context.Context, []kafka.Record) ([]kafka.Record, error) {
			return nil, fault.Permanentf("no such currency")
		}, ": no such currency"},
		"no topic": {func(context.Context, []kafka.Record) ([]kafka.Record, error) {
			return []kafka.Record{{Topic: "out"}, {}}, nil
		}, "record 2 of 2 to send has no topic"},
		"too large": {func(context.Context, []kafka.Record) ([]kafka.Record, error) {
			return []kafka.Record{{Topic: "out"}, {Topic: "out", Value: make([]byte, 2<<20)}}, nil
		}, "send to out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, cfg := broker(t, 1, "in", "out")
			records(t, cfg, 0, 3)
			tr, err := kafka.NewTransformer(kafka.TransformerConfig{Config: cfg, Group: "transform", Topics: []string{"in"}}, c.fn, quiet)
			require.NoError(t, err)
			err = tr.Run(t.Context())
			require.ErrorContains(t, err, c.says)
			require.Equal(t, fault.Permanent, fault.KindOf(err))
			require.EqualValues(t, -1, committed(cluster, "transform", "in", 0))
			require.Empty(t, log(t, cfg, "out", sarama.ReadCommitted))
		})
	}
}

// Whatever answer of the cluster goes wrong, nothing is lost and nothing doubled.
func TestTransformSurvivesEveryRefusal(t *testing.T) {
	t.Parallel()
	const n = 20
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit} {
		for _, refusal := range []*kerr.Error{kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.NotCoordinator} {
			t.Run(key.Name()+"/"+refusal.Message, func(t *testing.T) {
				t.Parallel()
				cluster, cfg := embedded(t, 1, "in", "out")
				records(t, cfg, 0, n)
				refused := make(chan struct{})
				cluster.ControlKey(key.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
					defer close(refused)
					return refuse(request, refusal.Code), nil, true
				})
				transformer(t, cfg, copies)
				require.Eventually(t, drained(cluster, 1, n), patience, tick)
				<-refused
				require.Equal(t, once(n), log(t, cfg, "out", sarama.ReadCommitted))
			})
		}
	}
}

// refuse answers request with code, without doing it.
func refuse(request kmsg.Request, code int16) kmsg.Response {
	response := request.ResponseKind()
	switch r := response.(type) {
	case *kmsg.ProduceResponse:
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			out := kmsg.NewProduceResponseTopic()
			out.Topic, out.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, code
				out.Partitions = append(out.Partitions, partition)
			}
			r.Topics = append(r.Topics, out)
		}
	case *kmsg.OffsetCommitResponse:
		for _, topic := range request.(*kmsg.OffsetCommitRequest).Topics {
			out := kmsg.NewOffsetCommitResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				partition := kmsg.NewOffsetCommitResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, code
				out.Partitions = append(out.Partitions, partition)
			}
			r.Topics = append(r.Topics, out)
		}
	case *kmsg.InitProducerIDResponse:
		r.ErrorCode = code
	case *kmsg.AddPartitionsToTxnResponse:
		for _, topic := range request.(*kmsg.AddPartitionsToTxnRequest).Topics {
			out := kmsg.NewAddPartitionsToTxnResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				partition := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p, code
				out.Partitions = append(out.Partitions, partition)
			}
			r.Topics = append(r.Topics, out)
		}
	case *kmsg.AddOffsetsToTxnResponse:
		r.ErrorCode = code
	case *kmsg.EndTxnResponse:
		r.ErrorCode = code
	case *kmsg.TxnOffsetCommitResponse:
		for _, topic := range request.(*kmsg.TxnOffsetCommitRequest).Topics {
			out := kmsg.NewTxnOffsetCommitResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				partition := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, code
				out.Partitions = append(out.Partitions, partition)
			}
			r.Topics = append(r.Topics, out)
		}
	}
	return response
}

// A transaction that a killed process left open is aborted as soon as the partition has its next owner, long before
// its own timeout, and its records are never seen.
func TestNextOwnerAbortsWhatWasLeftOpen(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "in", "out")
	records(t, cfg, 0, 1)
	settings := cfg.Sarama()
	settings.Producer.Transaction.ID = "transform/in/0"
	settings.Producer.Transaction.Timeout = 10 * time.Minute
	killed, err := sarama.NewSyncProducer(cfg.Brokers, settings)
	require.NoError(t, err)
	require.NoError(t, killed.BeginTxn())
	_, _, err = killed.SendMessage(&sarama.ProducerMessage{Topic: "out", Value: sarama.StringEncoder("half")})
	require.NoError(t, err)
	transformer(t, cfg, copies)
	require.Eventually(t, drained(cluster, 1, 1), patience, tick)
	require.Equal(t, once(1), log(t, cfg, "out", sarama.ReadCommitted))
	require.Equal(t, []string{"half", "0"}, log(t, cfg, "out", sarama.ReadUncommitted))
	_, _, err = killed.SendMessage(&sarama.ProducerMessage{Topic: "out", Value: sarama.StringEncoder("late")})
	require.Error(t, err, "whoever had the id before is fenced off")
	require.NoError(t, killed.Close())
}

// Stopping takes no longer than a transaction may, also when the cluster is gone in the middle of one.
func TestTransformerStopsWithoutItsCluster(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "in", "out")
	records(t, cfg, 0, 1)
	tr, err := kafka.NewTransformer(kafka.TransformerConfig{
		Config: cfg, Group: "transform", Topics: []string{"in"}, TransactionTimeout: time.Second,
	}, func(ctx context.Context, in []kafka.Record) ([]kafka.Record, error) {
		cluster.Close()
		return copies(ctx, in)
	}, quiet)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	require.Eventually(t, func() bool { return tr.Trouble() != nil && strings.Contains(tr.Trouble().Error(), "refused") }, patience, tick)
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "it still runs")
	}
}

func TestTransformerConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewTransformer(kafka.TransformerConfig{
		Config: kafka.Config{Brokers: []string{"nowhere"}}, MaxRecords: -1, TransactionTimeout: time.Millisecond,
	}, copies, quiet)
	for _, want := range []string{`broker "nowhere" must be host:port`, "group is empty", "topics are", "MaxRecords is -1", "TransactionTimeout is 1ms, must be at least 1s"} {
		require.ErrorContains(t, err, want)
	}
}
