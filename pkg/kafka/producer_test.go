package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// ofKey is a batch of events from..to-1 of one key.
func ofKey(topic, key string, from, to int) (batch []event.Addressed) {
	for n := from; n < to; n++ {
		batch = append(batch, addressed(topic, key, n))
	}
	return batch
}

// data is the events' bodies, as log returns them.
func data(batch ...event.Addressed) (values []string) {
	for _, a := range batch {
		values = append(values, string(a.Event.Data))
	}
	return values
}

// counted counts the produce requests in n.
func counted(cfg kafka.Config, n *atomic.Int32) kafka.Config {
	cfg.Dial = func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		return &counting{conn, n}, err
	}
	return cfg
}

type counting struct {
	net.Conn
	n *atomic.Int32
}

func (c *counting) Write(frame []byte) (int, error) {
	if len(frame) > 6 && frame[4] == 0 && frame[5] == 0 {
		c.n.Add(1)
	}
	return c.Conn.Write(frame)
}

// threeBrokers has a topic of six partitions, of which each broker leads two.
func threeBrokers(t *testing.T) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(6, "topic"))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	for p := range int32(6) {
		require.NoError(t, fake.MoveTopicPartition("topic", p, p%3))
	}
	return fake, kafka.Config{Brokers: fake.ListenAddrs(), ClientID: "test"}
}

func TestBatchIsOneRequestToEachLeader(t *testing.T) {
	t.Parallel()
	_, cfg := threeBrokers(t)
	var requests atomic.Int32
	p := publisher(t, counted(cfg, &requests))
	var batch []event.Addressed
	for n := range 300 {
		batch = append(batch, addressed("topic", fmt.Sprint("key-", n), n))
	}
	for range 5 {
		before := requests.Load()
		require.Nil(t, p.SendBatch(t.Context(), batch))
		require.EqualValues(t, 3, requests.Load()-before)
	}
	require.Len(t, log(t, cfg, "topic", sarama.ReadUncommitted), 5*300)
}

func TestBatchLargerThanItsLimitIsSplitInOrder(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	var requests atomic.Int32
	p := publisher(t, counted(cfg, &requests))
	batch := ofKey("topic", "k", 0, 40)
	for i := range batch {
		batch[i].Event.Data = fmt.Appendf(nil, `"%d%s"`, i, strings.Repeat("x", 100<<10))
	}
	require.Nil(t, p.SendBatch(t.Context(), batch))
	require.EqualValues(t, 4, requests.Load(), "4 MB in batches of 1 MiB")
	require.Equal(t, data(batch...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

// Of a key, nothing is sent behind a record that was not; other keys of the partition go on.
func TestNothingOvertakesARefusedRecordOfItsKey(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{
		"larger than the publisher's limit": 2 << 20,
		"larger than the topic's limit":     30 << 10,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := broker(t, 1)
			require.NoError(t, admin(t, cfg).EnsureTopics(t.Context(), []kafka.Topic{
				{Name: "topic", Partitions: 1, Replication: 1, Configs: map[string]string{"max.message.bytes": "20000"}},
			}))
			p := publisher(t, cfg)
			var batch, sent []event.Addressed
			for n := range 100 {
				batch = append(batch, addressed("topic", fmt.Sprint("key-", n%10), n))
			}
			batch[43].Event.Data = fmt.Appendf(nil, `"%s"`, incompressible(size))
			errs := p.SendBatch(t.Context(), batch)
			require.Len(t, errs, len(batch))
			for n, err := range errs {
				switch {
				case n == 43:
					require.Equal(t, fault.Permanent, fault.KindOf(err), "%v", err)
				case n > 43 && n%10 == 3:
					require.Equal(t, fault.Transient, fault.KindOf(err))
					require.ErrorContains(t, err, "an earlier record of its key")
				default:
					require.NoError(t, err)
					sent = append(sent, batch[n])
				}
			}
			require.Equal(t, data(sent...), log(t, cfg, "topic", sarama.ReadUncommitted))
			require.Nil(t, p.SendBatch(t.Context(), batch[44:]), "and the caller may send on")
		})
	}
}

func incompressible(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; {
		x = x*1664525 + 1013904223
		b.WriteByte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[x>>26])
	}
	return b.String()
}

// What is behind a part of a batch that failed is not sent, however large the batch.
func TestNothingOvertakesAFailedPartOfABatch(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	send(t, p, addressed("topic", "k", 0))
	batch := ofKey("topic", "k", 1, 31)
	for i := range batch {
		batch[i].Event.Data = fmt.Appendf(nil, `"%d%s"`, i, strings.Repeat("x", 100<<10))
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.TopicAuthorizationFailed})
	for _, err := range p.SendBatch(t.Context(), batch) {
		require.ErrorIs(t, err, sarama.ErrTopicAuthorizationFailed)
	}
	require.Nil(t, p.SendBatch(t.Context(), batch))
	require.Equal(t, append([]string{`{"n":0}`}, data(batch...)...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

// Answers are lost, and what is sent again is in the log once and in order.
func TestAnswersLostKeepTheOrder(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 2, "topic")
	dialed := cfg
	var requests atomic.Int32
	dialed.Dial = func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		return &deafSometimes{Conn: conn, n: &requests}, err
	}
	p := publisher(t, dialed)
	var all []event.Addressed
	for n := 0; n < 200; n += 20 {
		batch := ofKey("topic", "k", n, n+20)
		send(t, p, batch...)
		all = append(all, batch...)
	}
	require.Greater(t, requests.Load(), int32(12))
	require.Equal(t, data(all...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

// deafSometimes loses the answer to every third produce request.
type deafSometimes struct {
	net.Conn
	n *atomic.Int32
}

func (d *deafSometimes) Write(frame []byte) (int, error) {
	if len(frame) > 6 && frame[4] == 0 && frame[5] == 0 && d.n.Add(1)%3 == 0 {
		var once sync.Once
		return (&deaf{Conn: d.Conn, once: &once}).Write(frame)
	}
	return d.Conn.Write(frame)
}

// The cluster answers what it may answer while it changes; the publisher tries again, and nobody sees it.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	for _, refusal := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend,
		kerr.RequestTimedOut, kerr.UnknownTopicOrPartition, kerr.KafkaStorageError,
		// The cluster has lost what it knew of the producer.
		kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch,
	} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			cluster, cfg := embedded(t, 1, "topic")
			p := publisher(t, cfg)
			send(t, p, ofKey("topic", "k", 0, 10)...)
			refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: refusal, Count: 3})
			send(t, p, ofKey("topic", "k", 10, 20)...)
			send(t, p, ofKey("topic", "k", 20, 30)...)
			require.EqualValues(t, 3, refused.Hits())
			require.Equal(t, data(ofKey("topic", "k", 0, 30)...), log(t, cfg, "topic", sarama.ReadUncommitted))
		})
	}
}

func TestFollowsTheLeader(t *testing.T) {
	t.Parallel()
	cluster, cfg := threeBrokers(t)
	p := publisher(t, cfg)
	var all []event.Addressed
	for n := 0; n < 120; n += 20 {
		batch := ofKey("topic", "k", n, n+20)
		send(t, p, batch...)
		all = append(all, batch...)
		for partition := range int32(6) {
			require.NoError(t, cluster.MoveTopicPartition("topic", partition, (int32(n)/20+partition)%3))
		}
	}
	require.Equal(t, data(all...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

// A partition that takes nothing keeps no other from being sent.
func TestPartitionInTroubleStopsNoOther(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 2, "topic")
	p := publisher(t, cfg)
	var batch []event.Addressed
	for n := range 20 {
		batch = append(batch, addressed("topic", fmt.Sprint("key-", n), n))
	}
	send(t, p, batch...)
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Partitions: []int32{0}, Err: kerr.NotEnoughReplicas, Count: -1,
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	errs := p.SendBatch(ctx, batch)
	require.Len(t, errs, 20)
	var healthy []event.Addressed
	for n, err := range errs {
		if err == nil {
			healthy = append(healthy, batch[n])
			continue
		}
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "outcome unknown")
	}
	require.NotEmpty(t, healthy)
	require.Less(t, len(healthy), 20)
	require.Nil(t, p.SendBatch(t.Context(), healthy), "at once, beside a partition that is tried again")
}

// A caller that has stopped waiting sends again. What it sent first goes first, so nothing is out of order.
func TestWhatIsSentAgainWaitsForWhatIsUnknown(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.NotEnoughReplicas, Count: -1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_ = refused.Wait(ctx, 1)
		cancel()
	}()
	first := ofKey("topic", "k", 0, 1)
	errs := p.SendBatch(ctx, first)
	require.ErrorContains(t, errors.Join(errs...), "outcome unknown")

	// Behind it, a caller that gives up is not sent at all.
	short, cancelShort := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancelShort()
	errs = p.SendBatch(short, ofKey("topic", "never", 7, 9))
	require.ErrorContains(t, errors.Join(errs...), "not sent")

	done := make(chan []error)
	go func() { done <- p.SendBatch(t.Context(), ofKey("topic", "k", 0, 2)) }()
	refused.Remove()
	require.Nil(t, <-done)
	require.Equal(t, data(append(first, ofKey("topic", "k", 0, 2)...)...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

// What was given up may be in the log under its numbers: what comes next has others, or it would be taken for it.
func TestNumbersOfWhatWasGivenUpAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	send(t, p, ofKey("topic", "k", 0, 2)...)
	// It appends, and says otherwise.
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.RequestTimedOut, Count: 11})
	for _, err := range p.SendBatch(t.Context(), ofKey("topic", "k", 2, 4)) {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
	require.EqualValues(t, 11, refused.Hits())
	send(t, p, ofKey("topic", "k", 4, 6)...)
	require.Equal(t, data(ofKey("topic", "k", 0, 6)...), log(t, cfg, "topic", sarama.ReadUncommitted))
}

func TestCloseWaitsForWhatIsSent(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.NotEnoughReplicas, Count: -1})
	sent, closed := make(chan []error, 1), make(chan error, 1)
	go func() { sent <- p.SendBatch(t.Context(), ofKey("topic", "k", 0, 3)) }()
	require.NoError(t, refused.Wait(t.Context(), 1))
	go func() { closed <- p.Close() }()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), tick)
		defer cancel()
		return strings.Contains(fmt.Sprint(p.SendBatch(ctx, ofKey("topic", "late", 0, 1))), "closed")
	}, patience, tick)
	refused.Remove()
	require.Nil(t, <-sent)
	require.NoError(t, <-closed)
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	p := publisher(t, cfg)
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Err: kerr.NotEnoughReplicas, Count: -1})
	sent := make(chan []error, 1)
	go func() { sent <- p.SendBatch(t.Context(), ofKey("topic", "k", 0, 3)) }()
	require.NoError(t, refused.Wait(t.Context(), 1))
	start := time.Now()
	require.Equal(t, fault.Unavailable, fault.KindOf(p.Close()))
	require.Less(t, time.Since(start), 8*time.Second)
	for _, err := range <-sent {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
}

// Many callers at once: each batch stays in order, and what waits together is sent together.
func TestCallersAtOnce(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 3, "topic")
	var requests atomic.Int32
	p := publisher(t, counted(cfg, &requests))
	var callers sync.WaitGroup
	const n = 32
	for caller := range n {
		callers.Go(func() {
			key := fmt.Sprint("caller-", caller)
			for from := 0; from < 100; from += 10 {
				if errs := p.SendBatch(t.Context(), ofKey("topic", key, 1000*caller+from, 1000*caller+from+10)); errs != nil {
					t.Error(errs)
				}
			}
		})
	}
	callers.Wait()
	require.Less(t, requests.Load(), int32(n*10), "some went together")
	next := map[int]int{}
	for _, value := range log(t, cfg, "topic", sarama.ReadUncommitted) {
		var v int
		_, err := fmt.Sscanf(value, `{"n":%d}`, &v)
		require.NoError(t, err)
		require.Equal(t, next[v/1000], v%1000)
		next[v/1000]++
	}
	require.Len(t, next, n)
}
