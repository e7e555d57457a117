package saga_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
)

// What a step of a saga costs: its state is read, decided on and written, with 255 others in one transaction. An operation is a
// saga from its start to its end, three steps later. Its data are what an order's are, in bytes.
func BenchmarkSaga(b *testing.B) {
	databasetest.EachBench(b, func(b *testing.B, url string) {
		db := databasetest.Open(b, url, map[string]fs.FS{"saga": saga.Migrations})
		def := threeSteps(b)
		st, err := saga.NewStore(nil, def)
		require.NoError(b, err)
		data, err := json.Marshal(fmt.Sprintf("%0600d", 0))
		require.NoError(b, err)
		b.ReportAllocs()
		b.ResetTimer()
		for done := 0; done < b.N; done += 256 {
			ids := make([]string, min(256, b.N-done))
			for i := range ids {
				ids[i] = fmt.Sprintf("%032d-%d", done, i)
			}
			at := sagatest.Base
			batch := func(step func(ctx context.Context, tx *database.Tx, id string) error) {
				at = at.Add(time.Second)
				err := db.InTx(b.Context(), func(ctx context.Context, tx *database.Tx) error {
					for _, id := range ids {
						if err := step(ctx, tx, id); err != nil {
							return err
						}
					}
					return nil
				})
				require.NoError(b, err)
			}
			batch(func(ctx context.Context, tx *database.Tx, id string) error {
				_, _, err := st.Start(ctx, tx, def, id, data, at)
				return err
			})
			for _, step := range []string{"first", "second", "third"} {
				batch(func(ctx context.Context, tx *database.Tx, id string) error {
					if id == ids[0] {
						if err := st.ReadAhead(ctx, tx, ids); err != nil {
							return err
						}
					}
					_, _, err := st.Apply(ctx, tx, id, saga.Reply{At: at, Step: step, Outcome: saga.Done, MessageID: id})
					return err
				})
			}
		}
	})
}
