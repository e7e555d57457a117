//go:build cluster

package cluster_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// A leader is killed while records are sent, and then the next one too; a consumer reads all the while. The topic has
// three replicas, so the cluster goes on, or one, so it waits until the leader is back.
func TestLeaderKilledUnderLoad(t *testing.T) {
	for name, c := range map[string]struct {
		replicas int16
		inSync   string
		g        kafka.Guarantee
	}{
		"three replicas/effectively-once": {3, "2", kafka.EffectivelyOnce},
		"three replicas/at-least-once":    {3, "2", kafka.AtLeastOnce},
		"one replica/effectively-once":    {1, "1", kafka.EffectivelyOnce},
		"one replica/at-least-once":       {1, "1", kafka.AtLeastOnce},
	} {
		t.Run(name, func(t *testing.T) {
			topic := topic(t, c.replicas, c.inSync)
			handled := handle(t, topic)
			l := load(t, publisher(t, c.g), topic)
			for range 2 {
				l.goesOn(t)
				restart := kill(t, described(topic).Leader)
				if c.replicas == 3 {
					l.goesOn(t)
				}
				restart()
				l.goesOn(t)
				eventually(t, "all replicas are in sync", func() bool {
					p := described(topic)
					return p != nil && len(p.Isr) == int(c.replicas)
				})
			}
			sent, failed := l.stop()

			copies := map[string]int{}
			for _, v := range broker.Values(t, cluster, topic, sarama.ReadCommitted) {
				copies[v]++
			}
			doubled := 0
			for value, n := range copies {
				require.True(t, sent[value] || failed[value], "nobody sent %s", value)
				if n > 1 {
					doubled++
				}
			}
			for value := range sent {
				require.Positive(t, copies[value], "%s was sent and is lost", value)
			}
			if c.g == kafka.EffectivelyOnce {
				require.Zero(t, doubled)
			}
			t.Logf("sent %d, reported as failed %d, in the log %d, doubled %d", len(sent), len(failed), len(copies), doubled)
			eventually(t, "the consumer has handled all", func() bool { return handled(copies) })
		})
	}
}

// loading sends one record after the other.
type loading struct {
	n            atomic.Int64
	cancel       context.CancelFunc
	done         sync.WaitGroup
	sent, failed map[string]bool
}

// load sends the numbers to topic, one after the other in each of a few lanes.
func load(t *testing.T, p *kafka.Publisher, topic string) *loading {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &loading{cancel: cancel, sent: map[string]bool{}, failed: map[string]bool{}}
	var mu sync.Mutex
	var next atomic.Int64
	for range 8 {
		l.done.Go(func() {
			for ctx.Err() == nil {
				value := strconv.FormatInt(next.Add(1), 10)
				err := p.SendRecord(context.Background(), record(topic, value))
				mu.Lock()
				if err == nil {
					l.sent[value] = true
				} else {
					l.failed[value] = true
				}
				mu.Unlock()
				if err == nil {
					l.n.Add(1)
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
	})
	return l
}

// goesOn waits until a hundred more are sent.
func (l *loading) goesOn(t *testing.T) {
	t.Helper()
	from := l.n.Load()
	eventually(t, "the load goes on", func() bool { return l.n.Load() >= from+100 })
}

// stop returns what was reported as sent, and what as failed.
func (l *loading) stop() (sent, failed map[string]bool) {
	l.cancel()
	l.done.Wait()
	return l.sent, l.failed
}

// handle consumes topic in a group, and returns a function that tells whether all of some values have come.
func handle(t *testing.T, topic string) func(all map[string]int) bool {
	t.Helper()
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Config: cluster, Group: broker.Name(), Topics: []string{topic}}, quiet)
	require.NoError(t, err)
	messages, err := s.Subscribe(context.Background(), topic)
	require.NoError(t, err)
	var mu sync.Mutex
	seen := map[string]bool{}
	var done sync.WaitGroup
	done.Go(func() {
		for m := range messages {
			mu.Lock()
			seen[string(m.Payload)] = true
			mu.Unlock()
			m.Ack()
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		done.Wait()
	})
	return func(all map[string]int) bool {
		mu.Lock()
		defer mu.Unlock()
		for value := range all {
			if !seen[value] {
				return false
			}
		}
		return true
	}
}

// The only replica is down when "meanwhile" is sent. At most once says that it failed, and it is gone; with the others
// the caller sends again what failed, as the outbox does, until the broker is back.
func TestLeaderDown(t *testing.T) {
	for g, want := range map[kafka.Guarantee][]string{
		kafka.AtMostOnce:      {"before", "after"},
		kafka.AtLeastOnce:     {"before", "meanwhile", "after"},
		kafka.EffectivelyOnce: {"before", "meanwhile", "after"},
	} {
		t.Run(g.String(), func(t *testing.T) {
			topic := topic(t, 1, "1")
			p := publisher(t, g)
			require.NoError(t, p.SendRecord(t.Context(), record(topic, "before")))
			restart := kill(t, described(topic).Leader)
			err := p.SendRecord(t.Context(), record(topic, "meanwhile"))
			require.Equal(t, fault.Unavailable, fault.KindOf(err))
			restart()
			goesOn := func(value string) {
				eventually(t, "the publisher goes on", func() bool {
					return p.SendRecord(t.Context(), record(topic, value)) == nil
				})
			}
			if g != kafka.AtMostOnce {
				goesOn("meanwhile")
			}
			goesOn("after")
			require.Equal(t, want, broker.Values(t, cluster, topic, sarama.ReadCommitted))
		})
	}
}

// Why no guarantee asks for no acknowledgement (acks=0): of a broker that is dead it says that all went well.
func TestNoAcknowledgement(t *testing.T) {
	topic := topic(t, 1, "1")
	settings := cluster.Sarama()
	settings.Producer.Idempotent = false
	settings.Producer.RequiredAcks = sarama.NoResponse
	settings.Producer.Retry.Max = 0
	p, err := sarama.NewSyncProducer(cluster.Brokers, settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("before")})
	require.NoError(t, err)
	restart := kill(t, described(topic).Leader)
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("lost")})
	require.NoError(t, err, "it is a success")
	restart()
	require.Equal(t, []string{"before"}, broker.Values(t, cluster, topic, sarama.ReadCommitted))
}
