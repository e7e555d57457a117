package replay_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/replay"
)

func TestMain(m *testing.M) {
	// go-metrics, which sarama counts with, starts one ticker a process and never stops it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const partitions = 3

// world is a broker with a topic, its history, and the topics of two groups.
type world struct {
	t       *testing.T
	cfg     kafka.Config
	admin   *kafka.Admin
	cluster *kfake.Cluster
	client  sarama.Client
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func begin(t *testing.T) *world {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "history", "other", "g.redrive", "g.x.redrive"),
		kfake.SeedTopics(1, "g.dlq", "g.x.dlq"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	w := &world{t: t, cluster: cluster, cfg: kafka.Config{Brokers: cluster.ListenAddrs(), ClientID: "test"}}
	w.admin, err = kafka.NewAdmin(w.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.admin.Close()) })
	w.client, err = sarama.NewClient(w.cfg.Brokers, w.cfg.Sarama())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.client.Close()) })
	return w
}

// write puts n records of each of four keys on the topic, a minute between two rounds.
func (w *world) write(n int, from time.Time) {
	w.t.Helper()
	p, err := sarama.NewSyncProducerFromClient(w.client)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, p.Close()) }()
	var all []*sarama.ProducerMessage
	for i := range n {
		for _, key := range []string{"a", "b", "c", "d"} {
			all = append(all, &sarama.ProducerMessage{
				Topic: "history", Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(fmt.Sprintf("%s%d", key, i)),
				Timestamp: from.Add(time.Duration(i) * time.Minute),
				Headers:   []sarama.RecordHeader{{Key: []byte("ce_id"), Value: []byte(fmt.Sprintf("%s%d", key, i))}},
			})
		}
	}
	require.NoError(w.t, p.SendMessages(all))
}

// read returns what stands in a topic, by value of each key.
func (w *world) read(topic string) (records []kafka.Record, byKey map[string][]string) {
	w.t.Helper()
	ranges, err := w.admin.Ranges(w.t.Context(), topic)
	require.NoError(w.t, err)
	byKey = map[string][]string{}
	for p, r := range ranges {
		consumer, err := sarama.NewConsumerFromClient(w.client)
		require.NoError(w.t, err)
		pc, err := consumer.ConsumePartition(topic, p, r.Start)
		require.NoError(w.t, err)
		// Markers take offsets; the last record is known by the silence that follows.
		for quiet := false; !quiet && r.Start < r.End; {
			select {
			case m := <-pc.Messages():
				byKey[string(m.Key)] = append(byKey[string(m.Key)], string(m.Value))
				record := kafka.Record{Topic: topic, Key: m.Key, Value: m.Value, Headers: map[string]string{}}
				for _, h := range m.Headers {
					record.Headers[string(h.Key)] = string(h.Value)
				}
				records = append(records, record)
			case <-time.After(500 * time.Millisecond):
				quiet = true
			}
		}
		require.NoError(w.t, pc.Close())
	}
	return records, byKey
}

func (w *world) request(id, from, to string) replay.Request {
	w.t.Helper()
	now := time.Now()
	start, err := replay.ParseBound(from, now)
	require.NoError(w.t, err)
	end, err := replay.ParseBound(to, now)
	require.NoError(w.t, err)
	return replay.Request{ID: id, Topic: "history", Target: "g.x", From: start, To: end, Inbox: deadletter.ReplaySkip}
}

func (w *world) prepare(r replay.Request) replay.Plan {
	w.t.Helper()
	p, err := replay.Prepare(w.t.Context(), w.admin, r)
	require.NoError(w.t, err)
	return p
}

func (w *world) copier() replay.Copier {
	return replay.Copier{Kafka: w.cfg, Admin: w.admin, Logger: slog.New(slog.DiscardHandler)}
}

// run prepares, begins and copies.
func (w *world) run(r replay.Request) (replay.Plan, int64) {
	w.t.Helper()
	p := w.prepare(r)
	require.NoError(w.t, p.Begin(w.t.Context(), w.admin, time.Now()))
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	p, n, err := w.copier().Run(ctx, p)
	require.NoError(w.t, err)
	require.Equal(w.t, p.Total(), p.Done())
	return p, n
}

func upTo(n int) map[string][]string {
	all := map[string][]string{}
	for _, key := range []string{"a", "b", "c", "d"} {
		for i := range n {
			all[key] = append(all[key], fmt.Sprintf("%s%d", key, i))
		}
	}
	return all
}

func TestCopiesEverythingOnceInOrder(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.write(200, noon)
	p := w.prepare(w.request("r1", replay.Oldest, ""))
	require.EqualValues(t, 800, p.Total())
	require.Zero(t, p.Done())
	groups, err := w.admin.Groups(t.Context())
	require.NoError(t, err)
	require.Empty(t, groups, "to prepare writes nothing")

	require.NoError(t, p.Begin(t.Context(), w.admin, time.Now()))
	w.write(1, noon.Add(24*time.Hour)) // after the end was settled
	var shown atomic.Int64
	c := w.copier()
	c.Progress = func(p replay.Plan) { shown.Store(p.Done()) }
	p, n, err := c.Run(t.Context(), p)
	require.NoError(t, err)
	require.EqualValues(t, 800, n)
	require.Equal(t, p.Total(), p.Done())
	require.EqualValues(t, 800, shown.Load())

	records, byKey := w.read("g.x.redrive")
	require.Equal(t, upTo(200), byKey)
	for _, r := range records {
		require.Equal(t, "history", r.Headers[deadletter.HeaderTopic])
		require.Equal(t, "r1", r.Headers[deadletter.HeaderReplay])
		require.Equal(t, deadletter.ReplaySkip, r.Headers[deadletter.HeaderReplayInbox])
		require.Equal(t, string(r.Value), r.Headers["ce_id"])
		require.True(t, strings.HasPrefix(r.Headers[deadletter.HeaderTimestamp], "2026-03-04T1"), r.Headers)
		require.NotEmpty(t, r.Headers[deadletter.HeaderPartition])
		require.NotEmpty(t, r.Headers[deadletter.HeaderOffset])
	}

	// The same again, with whatever bounds, is done already.
	p, n = w.run(w.request("r1", "-1s", ""))
	require.Zero(t, n)
	require.EqualValues(t, 800, p.Total())
	_, byKey = w.read("g.x.redrive")
	require.Equal(t, upTo(200), byKey)

	require.NoError(t, replay.Forget(t.Context(), w.admin, "r1"))
	require.EqualValues(t, 804, w.prepare(w.request("r1", replay.Oldest, "")).Total())
}

func TestGoesOnWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.write(100, noon)
	p := w.prepare(w.request("r1", replay.Oldest, ""))
	require.NoError(t, p.Begin(t.Context(), w.admin, time.Now()))
	interrupted := 0
	for p.Done() < p.Total() {
		ctx, cancel := context.WithCancel(t.Context())
		c := w.copier()
		before := p.Done()
		if interrupted < 3 {
			c.Rate = 100
			c.Progress = func(p replay.Plan) {
				if p.Done() > before {
					cancel()
				}
			}
		}
		var err error
		p, _, err = c.Run(ctx, p)
		cancel()
		if p.Done() < p.Total() {
			require.ErrorIs(t, err, context.Canceled)
			interrupted++
		} else {
			require.NoError(t, err)
		}
		p = w.prepare(w.request("r1", replay.Oldest, "")) // as another process would
	}
	require.Equal(t, 3, interrupted)
	require.Equal(t, p.Total(), p.Done())
	_, byKey := w.read("g.x.redrive")
	require.Equal(t, upTo(100), byKey, "nothing doubled, nothing lost, in order")
}

func TestBounds(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.write(10, noon)
	at := func(minutes int) string { return noon.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339) }
	ranges, err := w.admin.Ranges(t.Context(), "history")
	require.NoError(t, err)
	var full int32
	for p, r := range ranges {
		if r.End > 0 {
			full = p
		}
	}
	ids := 0
	total := func(from, to string) int64 {
		ids++
		return w.prepare(w.request(fmt.Sprint("r", ids), from, to)).Total()
	}
	require.EqualValues(t, 40, total(replay.Oldest, ""))
	require.EqualValues(t, 12, total(at(3), at(6)), "the end is not part of it")
	require.EqualValues(t, 40, total(at(-60), ""))
	require.EqualValues(t, 0, total(at(60), ""))
	require.EqualValues(t, 40, total("0", ""))
	require.EqualValues(t, 2, total(fmt.Sprintf("%d:1", full), fmt.Sprintf("%d:3", full)), "of one partition only")
	require.EqualValues(t, 3, total("0", fmt.Sprintf("%d:3", full)))

	w.run(w.request("times", at(3), at(6)))
	_, byKey := w.read("g.x.redrive")
	require.Equal(t, map[string][]string{
		"a": {"a3", "a4", "a5"}, "b": {"b3", "b4", "b5"}, "c": {"c3", "c4", "c5"}, "d": {"d3", "d4", "d5"},
	}, byKey)

	for _, tc := range []struct{ from, to, says string }{
		{"1000", "", "the beginning: offset 1000 is out of range: partition 0 of history allows 0 to"},
		{"0", "77:3", "the end: history has no partition 77, it has 0 to 2"},
		{fmt.Sprintf("%d:3", full), fmt.Sprintf("%d:1", full), "begins at offset 3 and ends at 1"},
		{at(6), at(3), "the end must be later"},
		{"0:0", "1:0", "name different partitions"},
	} {
		_, err := replay.Prepare(t.Context(), w.admin, w.request("bad", tc.from, tc.to))
		require.ErrorContains(t, err, tc.says, tc)
	}
	_, err = replay.Prepare(t.Context(), w.admin, w.request("no/id", "0", ""))
	require.ErrorContains(t, err, "must be 1 to 64 letters")
}

func TestParseBound(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"2h": "must be a time", "yesterday": "must be a time", "-5": "must be a time", "1:2,1:3": "must be a time", "1:": "must be a time",
		"2026-03-04 12:00": "must be a time", noon.Add(time.Second).Format(time.RFC3339): "is in the future",
	} {
		_, err := replay.ParseBound(text, noon)
		require.ErrorContains(t, err, says, text)
	}
	for _, text := range []string{"", "oldest", "0", "12", "0:1,3:4", "-2h", "2026-03-04T12:00:00+01:00"} {
		_, err := replay.ParseBound(text, noon)
		require.NoError(t, err, text)
	}
}

// An id belongs to one replay.
func TestIDIsTaken(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.write(1, noon)
	w.run(w.request("r1", replay.Oldest, ""))
	for says, change := range map[string]func(*replay.Request){
		"is for group g.x with inbox skip": func(r *replay.Request) { r.Target = "g" },
		"with inbox skip: choose another":  func(r *replay.Request) { r.Inbox = deadletter.ReplayAgain },
		"is of another topic than other":   func(r *replay.Request) { r.Topic = "other" },
		`the replay's inbox is "maybe"`:    func(r *replay.Request) { r.Inbox = "maybe" },
	} {
		r := w.request("r1", replay.Oldest, "")
		change(&r)
		_, err := replay.Prepare(t.Context(), w.admin, r)
		require.ErrorContains(t, err, says)
	}
}

// What was written in a transaction ends with a marker, which is no record and yet takes an offset.
func TestCopiesWhatEndsWithAMarker(t *testing.T) {
	t.Parallel()
	w := begin(t)
	settings := w.cfg.Sarama()
	settings.Producer.Transaction.ID = "transactions"
	p, err := sarama.NewSyncProducer(w.cfg.Brokers, settings)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	for i := range 2 {
		require.NoError(t, p.BeginTxn())
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "history", Key: sarama.StringEncoder("a"), Value: sarama.StringEncoder(fmt.Sprint("a", i))})
		require.NoError(t, err)
		require.NoError(t, p.CommitTxn())
	}
	w.run(w.request("r1", replay.Oldest, ""))
	_, byKey := w.read("g.x.redrive")
	require.Equal(t, map[string][]string{"a": {"a0", "a1"}}, byKey)
}
