package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// note is what the handlers of these tests read ahead and change.
type note struct{ key, by string }

// A batch reads ahead for its handlers and writes what they changed; when that fails, or a message, they do without.
func TestPrepare(t *testing.T) {
	t.Parallel()
	none := func() error { return nil }
	for name, tc := range map[string]struct {
		prepare, write func() error
		poison         bool
		ahead          bool // whether what was read ahead came to a commit
	}{
		"works":         {prepare: none, write: none, ahead: true},
		"cannot read":   {prepare: func() error { return errors.New("no") }, write: none},
		"cannot write":  {prepare: none, write: func() error { return fault.Permanentf("no") }},
		"is not needed": {prepare: none, write: none, poison: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				b := newBench(t, url, kafka.EffectivelyOnce)
				const n = 40
				var asked atomic.Int64
				b.prepare = func(_ context.Context, tx *outbox.Tx, batch []event.Event) error {
					asked.Add(int64(len(batch)))
					rows := map[string]note{}
					for _, e := range batch {
						rows[e.Key] = note{key: e.Key}
					}
					database.ReadAhead(tx.Tx, rows, func(ctx context.Context, changed []note) error {
						for _, row := range changed {
							if _, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ('ahead', $1)`, row.by); err != nil {
								return err
							}
						}
						return tc.write()
					})
					return tc.prepare()
				}
				b.handle = func(_ context.Context, tx *outbox.Tx, key string, _ int) error {
					if tc.poison && key == "7" {
						return fault.Permanentf("never")
					}
					rows := database.AheadOf[note](tx.Tx)
					row, ok := rows.Get(key)
					if ok != rows.Has(key) {
						return fault.Permanentf("Get and Has differ")
					}
					if ok && key != "0" { // 0 changes nothing
						row.by = "by " + key
						rows.Put(key, row)
					}
					return nil
				}
				b.acked(b.batch(n))
				require.EqualValues(t, n, asked.Load(), "once, for all of the batch")
				written, effects := b.count(`SELECT COUNT(*) FROM effects WHERE key = 'ahead'`), n+1
				if tc.poison {
					effects--
				}
				require.Equal(t, effects, b.count(`SELECT COUNT(*) FROM effects WHERE key <> 'ahead'`))
				if tc.ahead {
					require.Equal(t, n-1, written)
				} else {
					require.Zero(t, written)
				}
				require.Equal(t, tc.poison, len(b.deadLetters()) == 1)
				for key := range n {
					require.LessOrEqual(t, b.callsOf(fmt.Sprint(key)), 2)
				}
			})
		})
	}
}
