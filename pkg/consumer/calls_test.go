package consumer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// Messages whose handlers call the outside look into the inbox together, and what has been handled is not called for again.
func TestCallsLookIntoTheInboxTogether(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, statements, counted := databasetest.Counted(t, url)
		b := newBench(t, url, kafka.EffectivelyOnce)
		const n = 200
		send := func() (msgs []*message.Message) {
			for i := range n {
				msgs = append(msgs, b.sendOf(context.WithoutCancel(t.Context()), called{}, fmt.Sprint(i), fmt.Sprint("id", i)))
			}
			return msgs
		}
		if !counted {
			b.acked(send())
		} else {
			// While nobody can read the inbox, the first waits for that and the others for it.
			var msgs []*message.Message
			require.NoError(t, b.db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				if _, err := tx.ExecContext(ctx, `LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE`); err != nil {
					return err
				}
				msgs = send()
				b.eventually(func() bool { return b.decoded.Load() == n }, "all came")
				return nil
			}))
			before := statements()
			b.acked(msgs)
			require.Less(t, statements()-before, n/4, "a look and a transaction each are five")
		}
		require.Equal(t, []int{n, n}, []int{b.count(`SELECT COUNT(*) FROM inbox`), b.count(`SELECT COUNT(*) FROM outbox`)})

		b.acked(send())
		require.Equal(t, []int{n, n}, []int{b.count(`SELECT COUNT(*) FROM inbox`), b.count(`SELECT COUNT(*) FROM outbox`)})
		for i := range n {
			require.Equal(t, 1, b.callsOf(fmt.Sprint("call ", i)))
		}
	})
}
