package delivery_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// transactionTimeout is when the cluster itself aborts what a killed process left open. It looks every ten seconds.
const transactionTimeout = 5 * time.Second

// Each fault befalls a transformer at its first record, "m". It, or its successor, goes on, and when the offset of
// "next" is committed, all is done. Readers of committed records see each once, whatever happened; readers of
// uncommitted ones see what was aborted, too.
func TestTransform(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]struct {
		killed      bool
		uncommitted []string
	}{
		"while transforming":            {true, []string{"m", "next"}},
		"before the transaction's note": {true, []string{"m", "m", "next"}},
		"before the transaction's end":  {true, []string{"m", "m", "next"}},
		"after the transaction's end":   {true, []string{"m", "next"}},
		"answer to the send lost":       {false, []string{"m", "next"}},
		"answer to the end lost":        {false, []string{"m", "next"}},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "transformer", kafka.EffectivelyOnce)
			send(t, p.Topic, "m")
			if want.killed {
				p.dies(t, fault)
				p.start(t, "")
			} else {
				p.start(t, fault)
			}
			p.transformed(t, 1)
			send(t, p.Topic, "next")
			p.transformed(t, 2)
			require.Equal(t, []string{"m", "next"}, broker.Values(t, cluster, p.Out, sarama.ReadCommitted))
			require.Equal(t, want.uncommitted, broker.Values(t, cluster, p.Out, sarama.ReadUncommitted))
		})
	}
}

// transformed waits until the offset of the first n records is committed.
func (p process) transformed(t *testing.T, n int64) {
	t.Helper()
	a := admin(t)
	eventually(t, "the records are transformed", func() bool { return broker.Committed(t, a, p.Group, p.Topic) == n })
}

// A process is suspended in a transaction for so long that another gets its partition, and then goes on.
func TestTransformSuspended(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "transformer", kafka.EffectivelyOnce)
	p.Instance = "" // a member of its own
	send(t, p.Topic, "m")
	first := p.start(t, "suspended before the note")
	eventually(t, "it is suspended", p.noted(suspended))
	p.start(t, "")
	p.transformed(t, 1)
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, "it has gone on", p.noted(answered))
	send(t, p.Topic, "next")
	p.transformed(t, 2)
	require.Equal(t, []string{"m", "next"}, broker.Values(t, cluster, p.Out, sarama.ReadCommitted))
	require.Equal(t, []string{"m", "m", "next"}, broker.Values(t, cluster, p.Out, sarama.ReadUncommitted))
}

// Members come and go while records come.
func TestTransformRebalance(t *testing.T) {
	t.Parallel()
	const n = 300
	p := newProcess(t, "transformer", kafka.EffectivelyOnce)
	p.Instance, p.Topic = "", broker.Name()
	broker.Create(t, cluster, kafka.Topic{Name: p.Topic, Partitions: 4})
	join := func() (stop func()) {
		tr, err := p.transformer(cluster, "")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tr.Run(ctx) }()
		eventually(t, "it has joined", tr.Joined)
		return func() {
			cancel()
			within(t, "it stops", func() { require.NoError(t, <-done) })
		}
	}
	var want []string
	publisher := publisher(t, cluster, kafka.EffectivelyOnce)
	records := func() {
		for range n / 3 {
			value := broker.Name()
			want = append(want, value)
			require.NoError(t, publisher.SendRecord(t.Context(), kafka.Record{Topic: p.Topic, Key: []byte(value), Value: []byte(value)}))
		}
	}
	stop := join()
	records()
	stopSecond := join()
	records()
	stop()
	records()
	a := admin(t)
	eventually(t, "all are transformed", func() bool {
		commits, err := a.Commits(t.Context(), p.Group, p.Topic)
		require.NoError(t, err)
		var sum int64
		for _, c := range commits {
			sum += c.Offset
		}
		return sum == n
	})
	stopSecond()
	got := broker.Values(t, cluster, p.Out, sarama.ReadCommitted)
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
}
