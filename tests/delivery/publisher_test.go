package delivery_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// sends returns what a publisher reports of one record, and how often it is in the log.
func sends(t *testing.T, g kafka.Guarantee, judge func(int16) verdict, attempts int) (err error, copies int) {
	t.Helper()
	topic := broker.Name()
	broker.Topics(t, cluster, topic)
	cfg := cluster
	cfg.Dial = wire(judge, nil)
	p := publisher(t, cfg, g)
	for range attempts {
		if err = p.SendRecord(t.Context(), kafka.Record{Topic: topic, Key: []byte("key"), Value: []byte("m")}); err == nil {
			break
		}
	}
	for _, v := range broker.Values(t, cluster, topic, sarama.ReadUncommitted) {
		require.Equal(t, "m", v)
		copies++
	}
	return err, copies
}

// The broker appends the record, and its answer is lost.
func TestPublisherAnswerLost(t *testing.T) {
	t.Parallel()
	for g, want := range map[kafka.Guarantee]struct {
		copies int
		fails  bool
	}{
		kafka.AtMostOnce:      {1, true}, // it is there, and reported as failed
		kafka.AtLeastOnce:     {2, false},
		kafka.EffectivelyOnce: {1, false},
	} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			err, copies := sends(t, g, once(produce, lose), 1)
			require.Equal(t, want.fails, err != nil, "%v", err)
			require.Equal(t, want.copies, copies)
		})
	}
}

// The connection breaks before the broker has the record.
func TestPublisherConnectionCut(t *testing.T) {
	t.Parallel()
	for g, want := range map[kafka.Guarantee]struct {
		copies int
		fails  bool
	}{
		kafka.AtMostOnce:      {0, true},
		kafka.AtLeastOnce:     {1, false},
		kafka.EffectivelyOnce: {1, false},
	} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			err, copies := sends(t, g, once(produce, cut), 1)
			require.Equal(t, want.fails, err != nil, "%v", err)
			require.Equal(t, want.copies, copies)
		})
	}
}

// No answer comes until the publisher gives up, and the caller sends the record again.
func TestPublisherCallerSendsAgain(t *testing.T) {
	t.Parallel()
	for _, g := range guarantees {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			// A publisher sends a record once and, but for at-most-once, up to ten times more.
			attempts := int32(11)
			if g == kafka.AtMostOnce {
				attempts = 1
			}
			err, copies := sends(t, g, func(kind int16) verdict {
				if kind == produce && sent.Add(1) <= attempts {
					return lose
				}
				return pass
			}, 2)
			require.NoError(t, err)
			require.Equal(t, attempts+1, sent.Load())
			want := map[kafka.Guarantee]int{
				kafka.AtMostOnce:      2,
				kafka.AtLeastOnce:     12,
				kafka.EffectivelyOnce: 2, // one a call: its own repetitions are told apart
			}
			require.Equal(t, want[g], copies)
		})
	}
}

// What at-most-once reports of a broker that does not answer can be told from what the broker refuses.
func TestPublisherSaysWhy(t *testing.T) {
	t.Parallel()
	err, copies := sends(t, kafka.AtMostOnce, once(produce, cut), 1)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Zero(t, copies)
	p := publisher(t, cluster, kafka.AtMostOnce)
	err = p.SendRecord(t.Context(), kafka.Record{Topic: broker.Name(), Value: []byte("m")})
	require.Equal(t, fault.Transient, fault.KindOf(err))
	require.True(t, errors.Is(err, sarama.ErrUnknownTopicOrPartition) && slices.Contains(guarantees, kafka.AtMostOnce))
}
