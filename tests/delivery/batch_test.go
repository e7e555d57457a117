package delivery_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// batched is how many messages there are in a batch's test: what a consumer has of one partition at a time.
const batched = 256

// A consumer is killed in a transaction that half of the messages share, of 256 that were there first.
func TestConsumerKilledInABatch(t *testing.T) {
	t.Parallel()
	for _, g := range []kafka.Guarantee{kafka.AtLeastOnce, kafka.EffectivelyOnce} { // at most once shares nothing
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "batch", g)
			var batch []event.Addressed
			for n := range batched {
				a := happenedOn(p.Topic, fmt.Sprint(n))
				a.Event.Key = fmt.Sprint(n)
				batch = append(batch, a)
			}
			for _, err := range publisher(t, cluster, kafka.EffectivelyOnce).SendBatch(t.Context(), batch) {
				require.NoError(t, err)
			}
			p.dies(t, "in a batch")
			note, err := os.ReadFile(p.Note)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(batched/2, " in one transaction"), string(note))
			require.Len(t, p.effects(t), 1, "the first message's, and nothing of those that shared the second transaction")

			p.start(t, "")
			a := admin(t)
			eventually(t, "the offset of all is committed", func() bool { return broker.Committed(t, a, p.Group, p.Topic) == batched })
			effects := p.effects(t)
			require.Len(t, effects, batched)
			twice := 0
			for _, n := range effects {
				twice += n - 1
			}
			if g == kafka.AtLeastOnce {
				require.LessOrEqual(t, twice, 1, "the first message's offset may not have been committed, and that of no other")
			} else {
				require.Zero(t, twice)
			}
		})
	}
}

// inBatch is what a consumer's handler does beside its effect to be killed in the middle of a batch: the first message
// holds its transaction until all others wait for the next, which ends half way.
func (p process) inBatch(registry prometheus.Gatherer) func(ctx context.Context, tx *outbox.Tx) error {
	var mu sync.Mutex
	shared := map[*outbox.Tx]int{}
	return func(ctx context.Context, tx *outbox.Tx) error {
		mu.Lock()
		shared[tx]++
		n, first := shared[tx], len(shared) == 1
		mu.Unlock()
		if n == batched/2 {
			p.note(fmt.Sprint(n, " in one transaction"))
			kill()
		}
		if !first {
			return nil
		}
		tick := time.NewTicker(broker.Tick)
		defer tick.Stop()
		for {
			waiting, err := gauge(registry, "consumer_batch_waiting")
			if err != nil || waiting == batched-1 {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func gauge(registry prometheus.Gatherer, name string) (float64, error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue(), nil
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}
