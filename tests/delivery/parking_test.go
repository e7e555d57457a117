package delivery_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/parking"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

func (p process) parked(t *testing.T, blocked string) (n int) {
	t.Helper()
	p.query(t, "SELECT count(*) FROM parked WHERE blocked_at IS "+blocked, func(scan func(...any) error) { require.NoError(t, scan(&n)) })
	return n
}

// Each fault kills a consumer at its first message, "m", which fails and is parked. Its successor goes on, and when it has
// handled "next", which has the same key, it has done with "m" too.
func TestConsumerKilledWithParkedMessages(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]outcome{
		"after parking":                  {kafka.AtLeastOnce: 1, kafka.EffectivelyOnce: 1},
		"after handling what was parked": {kafka.AtLeastOnce: 2, kafka.EffectivelyOnce: 1},
	} {
		for g, effects := range want {
			t.Run(fault+"/"+g.String(), func(t *testing.T) {
				t.Parallel()
				p := newProcess(t, "parking", g)
				publish(t, p.Topic, "m")
				p.dies(t, fault)
				publish(t, p.Topic, "next")
				p.start(t, "")
				eventually(t, "the next message is handled", func() bool { return p.effects(t)["next"] == 1 })
				require.Equal(t, effects, p.effects(t)["m"])
				eventually(t, "nothing is parked", func() bool { return p.parked(t, "NULL") == 0 })
			})
		}
	}
}

// "m" fails in every attempt, and its key waits for the dead letter, whenever the consumer is killed: when the letter is sent and
// nothing says so, and when the key was let go and "next" is about to be handled.
func TestConsumerKilledWithABlockedKey(t *testing.T) {
	t.Parallel()
	for _, g := range []kafka.Guarantee{kafka.AtLeastOnce, kafka.EffectivelyOnce} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "parking", g)
			publish(t, p.Topic, "m")
			p.dies(t, "after the dead letter")
			require.Equal(t, []int{1, 0}, []int{p.parked(t, "NULL"), p.parked(t, "NOT NULL")})
			publish(t, p.Topic, "next")
			again := p.start(t, "it never works")
			a := admin(t)
			eventually(t, "the key is blocked, and the offset committed", func() bool {
				return p.parked(t, "NOT NULL") == 1 && p.parked(t, "NULL") == 1 && broker.Committed(t, a, p.Group, p.Topic) == 2
			})
			again.stop()
			require.Empty(t, p.effects(t))

			db, err := database.Open(t.Context(), p.Database)
			require.NoError(t, err)
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				return parking.New(db, p.Group, time.Now).Release(ctx, tx, fmt.Sprintf("%s-0-0", p.Topic))
			}))
			require.NoError(t, db.Close())
			p.dies(t, "before handling the next")
			p.start(t, "")
			eventually(t, "the next message is handled, and all is done", func() bool { return p.effects(t)["next"] == 1 && p.parked(t, "NULL") == 0 })
			require.Zero(t, p.effects(t)["m"])
		})
	}
}
