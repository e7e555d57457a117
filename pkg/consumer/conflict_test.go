package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// conflicts are PostgreSQL's words of conflict, as handlers heard them.
type conflicts struct {
	mu    sync.Mutex
	codes []string
}

// update changes a row that others change too.
func (c *conflicts) update(ctx context.Context, tx *outbox.Tx, row string) error {
	_, err := tx.ExecContext(ctx, `UPDATE effects SET key = 'row' WHERE id = $1`, row)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.codes = append(c.codes, pg.Code)
	}
	return err
}

// rows makes the rows that are changed.
func (b *bench) rows(ids ...string) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), func(ctx context.Context, tx *database.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ('row', $1)`, id); err != nil {
				return err
			}
		}
		return nil
	}))
}

// blameless checks that a conflict was held against no message.
func (b *bench) blameless() {
	b.t.Helper()
	require.Empty(b.t, b.deadLetters())
	require.Zero(b.t, b.metric("consumer_retries_total").GetCounter().GetValue(), "no attempt is used up")
}

// The batches of two replicas hold a row each and want the other's. PostgreSQL breaks one off, and all messages of both
// take effect once.
func TestBatchesDeadlock(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		if strings.HasPrefix(url, "sqlite:") {
			return // it has one writer at a time
		}
		const n = 20
		var heard conflicts
		replicas := map[string]*bench{"left": newBench(t, url, kafka.EffectivelyOnce), "right": newBench(t, url, kafka.EffectivelyOnce)}
		replicas["left"].rows("left", "right")
		has := map[string]chan struct{}{"left": make(chan struct{}), "right": make(chan struct{})}
		var msgs []*message.Message
		for own, b := range replicas {
			other := map[string]string{"left": "right", "right": "left"}[own]
			var mu sync.Mutex
			first := "" // of two messages, which come into the batch in any order
			b.handle = func(ctx context.Context, tx *outbox.Tx, key string, call int) error {
				if key != own+"3" && key != own+"6" {
					return nil
				}
				mu.Lock()
				if first == "" {
					first = key
				}
				row := map[bool]string{true: own, false: other}[key == first]
				mu.Unlock()
				if err := heard.update(ctx, tx, row); err != nil || row == other || call > 1 {
					return err
				}
				close(has[own])
				select {
				case <-has[other]:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			msgs = append(msgs, b.send("gate", "gate of "+own))
			b.eventually(func() bool { return b.callsOf("gate") == 1 }, "the first transaction is under way")
			for i := range n {
				msgs = append(msgs, b.send(fmt.Sprint(own, i), fmt.Sprint(own, " ", i)))
			}
		}
		for _, b := range replicas {
			b.openGate(n)
		}
		replicas["left"].acked(msgs)
		require.Equal(t, []string{"40P01"}, heard.codes)
		require.Equal(t, 2*(n+1)+2, replicas["left"].count(`SELECT COUNT(*) FROM effects`))
		require.Equal(t, 2*(n+1), replicas["left"].count(`SELECT COUNT(*) FROM inbox`))
		require.Equal(t, 2*(n+1), replicas["left"].count(`SELECT COUNT(*) FROM outbox`))
		for _, b := range replicas {
			b.blameless()
		}
	})
}

// A row that a batch has an older view of is changed by somebody else, under an isolation that minds.
func TestBatchCannotBeSerialized(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		if strings.HasPrefix(url, "sqlite:") {
			return // it has one writer at a time
		}
		const n = 20
		var heard conflicts
		separator := "?"
		if strings.Contains(url, "?") {
			separator = "&"
		}
		b := newBench(t, url+separator+"default_transaction_isolation=repeatable%20read", kafka.EffectivelyOnce)
		b.rows("shared")
		b.handle = func(ctx context.Context, tx *outbox.Tx, key string, call int) error {
			if key != "6" {
				return nil
			}
			if call == 1 { // somebody else's transaction, which ends before this one goes on
				if _, err := b.db.ExecContext(context.WithoutCancel(t.Context()), `UPDATE effects SET key = 'changed' WHERE id = 'shared'`); err != nil {
					return err
				}
			}
			return heard.update(ctx, tx, "shared")
		}
		b.acked(b.batch(n))
		require.Equal(t, []string{"40001"}, heard.codes)
		require.Equal(t, 1, b.count(`SELECT COUNT(*) FROM effects WHERE id = 'shared' AND key = 'row'`))
		require.Equal(t, []int{n + 2, n + 1, n + 1}, []int{
			b.count(`SELECT COUNT(*) FROM effects`), b.count(`SELECT COUNT(*) FROM inbox`), b.count(`SELECT COUNT(*) FROM outbox`),
		})
		b.blameless()
	})
}
