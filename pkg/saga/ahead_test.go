package saga_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/saga"
)

// Sagas that were read ahead come to the same as those that were not, row for row.
func TestReadAheadMakesNoDifference(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		at := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
		db := databasetest.Open(t, url, map[string]fs.FS{"saga": saga.Migrations})
		def := threeSteps(t)
		st, _ := newStore(t, def)
		const n = database.MaxRows + 3
		ids := []string{"nowhere"}
		for i := range n {
			ids = append(ids, fmt.Sprintf("ahead-%03d", i))
		}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			for _, id := range append(ids[1:], "single") {
				if _, _, err := st.Start(ctx, tx, def, id, []byte(`{"k":"v"}`), at); err != nil {
					return err
				}
			}
			return nil
		}))
		inputs := func(ctx context.Context, tx *database.Tx, id string) error {
			for i, in := range []saga.Input{
				saga.Reply{Step: "first", Outcome: saga.Done, MessageID: "m1", At: at},
				saga.Reply{Step: "first", Outcome: saga.Done, MessageID: "m1", At: at}, // changes nothing
				saga.Reply{Step: "second", Outcome: saga.Failed, MessageID: "m2", Reason: "no", At: at},
			} {
				if _, _, err := st.Apply(ctx, tx, id, in); err != nil {
					return fmt.Errorf("input %d: %w", i, err)
				}
			}
			return nil
		}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return inputs(ctx, tx, "single") }))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			require.NoError(t, st.ReadAhead(ctx, tx, ids))
			_, err := st.Load(ctx, tx, "nowhere")
			require.ErrorIs(t, err, saga.ErrNotFound)
			stale, err := st.Load(ctx, tx, ids[1])
			require.NoError(t, err)
			for _, id := range ids[1 : n-1] {
				require.NoError(t, inputs(ctx, tx, id))
			}
			_, err = st.Save(ctx, tx, stale)
			require.Equal(t, fault.Transient, fault.KindOf(err), err)
			require.ErrorContains(t, err, "stale")
			return nil
		}))
		var different int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM sagas a, sagas b WHERE b.id = 'single' AND
			(a.version, a.status, a.step, a.updated_at, REPLACE(a.state, a.id, b.id)) <> (b.version, b.status, b.step, b.updated_at, b.state)`).Scan(&different))
		require.Equal(t, 2, different, "those without input")
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM sagas a, sagas b WHERE b.id = 'single' AND a.next_deadline = b.next_deadline`).Scan(&different))
		require.Equal(t, n-2+1, different)
	})
}
