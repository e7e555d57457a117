package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestSendBatchErrorsAreEachRecordsOwn(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 3, "topic")
	p := publisher(t, cfg)
	huge := addressed("topic", "huge", 0)
	huge.Event.Data = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
	start := time.Now()
	errs := p.SendBatch(t.Context(), []event.Addressed{
		addressed("topic", "a", 0), huge, addressed("nowhere", "b", 0), addressed("topic", "c", 0),
	})
	require.Less(t, time.Since(start), 3*time.Second, "an unknown topic delays nobody")
	require.Len(t, errs, 4)
	require.NoError(t, errs[0])
	require.ErrorContains(t, errs[1], "larger than")
	require.Equal(t, fault.Permanent, fault.KindOf(errs[1]))
	require.ErrorIs(t, errs[2], sarama.ErrUnknownTopicOrPartition)
	require.Equal(t, fault.Transient, fault.KindOf(errs[2]))
	require.NoError(t, errs[3])
	require.Nil(t, p.SendBatch(t.Context(), []event.Addressed{addressed("topic", "a", 1)}))
	require.Nil(t, p.SendBatch(t.Context(), nil))

	messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic")
	got := map[string]bool{}
	for range 3 {
		m := receive(t, messages)
		got[m.UUID] = true
		m.Ack()
	}
	require.Equal(t, map[string]bool{"a-0": true, "c-0": true, "a-1": true}, got)
}

func TestSendKeepsTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 3, "topic")
	p := publisher(t, cfg)
	for n := 0; n < 500; n += 50 {
		var batch []event.Addressed
		for i := range 50 {
			batch = append(batch, addressed("topic", "k", n+i))
		}
		send(t, p, batch...)
	}
	messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic")
	for n := range 500 {
		m := receive(t, messages)
		require.Equal(t, fmt.Sprintf("k-%d", n), m.UUID)
		m.Ack()
	}
}

// A record that one topic took must fit into the dead-letter topic with the headers that are added to it.
func TestSendRecordLargerThanAMessage(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	require.NoError(t, admin.EnsureTopics(t.Context(), []kafka.Topic{
		{Name: "letters", Partitions: 1, Replication: 1, Configs: map[string]string{"max.message.bytes": "1179648"}},
	}))
	p := publisher(t, cfg)
	r := kafka.Record{Topic: "letters", Value: make([]byte, 1<<20), Headers: map[string]string{"why": strings.Repeat("x", 2000)}}
	require.NoError(t, p.SendRecord(t.Context(), r))
	r.Topic = "topic"
	require.Equal(t, fault.Permanent, fault.KindOf(p.SendRecord(t.Context(), r)), "the topic takes no such record")
}

func TestSendWithoutABroker(t *testing.T) {
	t.Parallel()
	cfg := kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}}
	p := publisher(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	errs := p.SendBatch(ctx, []event.Addressed{addressed("topic", "a", 0), addressed("topic", "b", 0)})
	require.Less(t, time.Since(start), 2*time.Second)
	require.Len(t, errs, 2)
	for _, err := range append(errs, p.SendRecord(t.Context(), kafka.Record{Topic: "topic"})) {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Publish("topic", message.NewMessage("id", nil)), "closed")
}

func TestPlacesKeysWhereOthersDo(t *testing.T) {
	t.Parallel()
	// The partitions of Java's DefaultPartitioner: toPositive(murmur2(key)) % 7.
	_, cfg := broker(t, 7, "topic")
	p := publisher(t, cfg)
	keys := []string{"", "21", "foobar", "a-little-bit-long-string"}
	murmur2 := []int32{275646681, -973932308, -790332482, -985981536} // from Kafka's UtilsTest
	for _, key := range keys {
		require.NoError(t, p.SendRecord(t.Context(), kafka.Record{Topic: "topic", Key: []byte(key)}))
	}
	messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic")
	got := map[string]int32{}
	for range keys {
		m := receive(t, messages)
		r, _ := kafka.RecordOf(m)
		got[string(r.Key)] = r.Partition
		m.Ack()
	}
	for i, key := range keys {
		require.Equal(t, (murmur2[i]&0x7fffffff)%7, got[key], "key %q", key)
	}
}

func TestPublisherConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewPublisher(kafka.PublisherConfig{Guarantee: -1}, quiet)
	for _, want := range []string{"no brokers", "guarantee is -1, must be"} {
		require.ErrorContains(t, err, want)
	}
}

// The broker appends, and its answer is lost: what is sent again is in the log once, unless doubling was chosen.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for g, copies := range map[kafka.Guarantee]int{kafka.AtMostOnce: 1, kafka.AtLeastOnce: 2, kafka.EffectivelyOnce: 1} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			_, cfg := broker(t, 1, "topic")
			var once sync.Once
			broken := kafka.Config{Brokers: cfg.Brokers, Dial: func(network, address string) (net.Conn, error) {
				conn, err := net.Dial(network, address)
				return &deaf{Conn: conn, once: &once}, err
			}}
			p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: broken, Guarantee: g}, quiet)
			require.NoError(t, err)
			err = p.SendRecord(t.Context(), kafka.Record{Topic: "topic", Value: []byte("m")})
			require.Equal(t, g == kafka.AtMostOnce, err != nil, "%v", err)
			require.NoError(t, p.Close())
			ranges, err := admin(t, cfg).Ranges(t.Context(), "topic")
			require.NoError(t, err)
			require.EqualValues(t, copies, ranges[0].End)
		})
	}
}

// deaf is a connection that, once, waits for the answer to a produce request and then breaks instead of giving it.
type deaf struct {
	net.Conn
	once *sync.Once
}

func (d *deaf) Write(frame []byte) (n int, err error) {
	n, err = d.Conn.Write(frame)
	if produce := len(frame) > 6 && frame[4] == 0 && frame[5] == 0; produce && err == nil {
		d.once.Do(func() {
			_, err = io.ReadFull(d.Conn, make([]byte, 4))
			err = errors.Join(err, d.Close())
		})
	}
	return n, err
}
