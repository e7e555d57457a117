package outbox

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
)

type sent []string

func (s *sent) SendBatch(_ context.Context, batch []event.Addressed) []error {
	for _, a := range batch {
		*s = append(*s, a.Event.ID)
	}
	return nil
}

// What was sent is deleted by the statement that reads what comes next, or is gone when nothing does and when the relay
// leaves; none is sent twice.
func TestARoundIsOneStatement(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		statements := func() int { return 0 }
		if counted, count, ok := databasetest.Counted(t, url); ok {
			url, statements = counted, count
		}
		db := databasetest.Open(t, url, map[string]fs.FS{"outbox": Migrations})
		box := New(db, event.NewFactory("/s"), Options{})
		var got sent
		hour := time.Hour // nothing is looked for by itself
		r := box.Relay(&got, RelayOptions{Poll: hour, LeaseTTL: 3 * hour})
		ctx := t.Context()
		round := func() (cost int, p pace) {
			before := statements()
			p, err := r.round(ctx, ctx)
			require.NoError(t, err)
			return statements() - before, p
		}
		rows := func() (n int) {
			require.NoError(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM outbox").Scan(&n))
			return n
		}
		round() // takes the leases
		var want sent
		for i := range 5 {
			require.NoError(t, box.InTx(ctx, func(_ context.Context, tx *Tx) error {
				for k := range 3 {
					id := fmt.Sprint(i, "-", k)
					want = append(want, id)
					tx.Forward(event.Addressed{Topic: "t", Event: event.Event{
						ID: id, Type: "t", Source: "/s", Key: fmt.Sprint("key", k), Time: time.Unix(1, 0), Data: []byte("{}"),
					}})
				}
				return nil
			}))
			cost, p := round()
			require.LessOrEqual(t, cost, 1)
			require.LessOrEqual(t, p.wait, hour)
			require.Equal(t, want, got)
			require.LessOrEqual(t, rows(), 3, "those of this round at most")
			if rows() > 0 {
				require.LessOrEqual(t, p.wait, sentRest)
			}
		}
		round()
		require.Zero(t, rows())
		require.Equal(t, want, got)
	})
}
