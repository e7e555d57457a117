package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// Replicas whose batches stand in each other's way go on in smaller ones.
func TestConflictHalvesTheBatches(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, _ string, call int) error {
			if call == 1 && b.callsOf("conflicts") == 0 {
				b.mu.Lock()
				b.calls["conflicts"]++
				b.mu.Unlock()
				return &pgconn.PgError{Code: "40P01"}
			}
			return nil
		}
		b.acked(b.batch(256 + 200))
		b.tookEffect(457)
		transactions, _ := b.committed()
		require.Equal(t, 1+256+2, transactions, "the gate's, those of the batch one by one, then 128 and 72")
	})
}

// At most once calls a handler once: nobody's failure may call it again.
func TestAtMostOnceSharesNothing(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.AtMostOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
			if key == "7" {
				return errors.New("no")
			}
			return nil
		}
		msgs := []*message.Message{b.closeGate()}
		for i := range 8 {
			msgs = append(msgs, b.send(fmt.Sprint(i), fmt.Sprint("id", i)))
		}
		b.openGate(0)
		b.acked(msgs)
		transactions, messages := b.committed()
		require.Equal(t, []int{8, 8}, []int{transactions, messages})
		require.Len(t, b.deadLetters(), 1)
		for i := range 8 {
			require.Equal(t, 1, b.callsOf(fmt.Sprint(i)))
		}
	})
}

// At least once shares, without an inbox.
func TestAtLeastOnceShares(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.AtLeastOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
			if key == "7" {
				return fault.Permanentf("never")
			}
			return nil
		}
		b.acked(b.batch(50))
		require.Len(t, b.deadLetters(), 1)
		require.Equal(t, []int{50, 0, 50}, []int{
			b.count(`SELECT COUNT(*) FROM effects`), b.count(`SELECT COUNT(*) FROM inbox`), b.count(`SELECT COUNT(*) FROM outbox`),
		})
		transactions, _ := b.committed()
		require.Equal(t, 2, transactions)
	})
}

func TestBatchMaxIsChecked(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 0, 1025} {
		cfg := consumer.Config{MaxAttempts: 1, BackoffInitial: 1e6, BackoffMax: 1e6, BatchMax: n}
		require.EqualError(t, cfg.Validate(), fmt.Sprintf("CONSUMER_BATCH_MAX is %d, must be from 1 to 1024", n))
		cfg.BatchMax = 1024
		require.NoError(t, cfg.Validate())
	}
}
