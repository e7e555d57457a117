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

// notes are what the handlers of these tests read ahead and put off.
type notes struct {
	ahead map[string]bool
	by    []string
	write func() error
}

func notesOf(tx *outbox.Tx) *notes {
	return database.PutOffBy(tx.Tx, "notes", func() *notes { return &notes{ahead: map[string]bool{}} })
}

func (n *notes) Flush(ctx context.Context, tx *database.Tx) error {
	for _, by := range n.by {
		if _, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ('ahead', $1)`, by); err != nil {
			return err
		}
	}
	if n.by = nil; n.write != nil {
		return n.write()
	}
	return nil
}

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
					if len(batch) == 1 { // the one that the others wait for
						return nil
					}
					asked.Add(int64(len(batch)))
					notes := notesOf(tx)
					notes.write = tc.write
					for _, e := range batch {
						notes.ahead[e.Key] = true
					}
					return tc.prepare()
				}
				b.handle = func(_ context.Context, tx *outbox.Tx, key string, _ int) error {
					if tc.poison && key == "7" {
						return fault.Permanentf("never")
					}
					if notes := notesOf(tx); notes.ahead[key] && key != "0" { // 0 changes nothing
						notes.by = append(notes.by, "by "+key)
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
