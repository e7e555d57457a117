package inbox_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/inbox"
)

// BenchmarkMark is what a transaction that marks so many new messages costs, its begin and commit included. An op is a message.
func BenchmarkMark(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			databasetest.EachBench(b, func(b *testing.B, url string) {
				db := databasetest.Open(b, url, map[string]fs.FS{"inbox": inbox.Migrations})
				ids := make([]string, (b.N+size-1)/size*size)
				for i := range ids {
					ids[i] = uuid.Must(uuid.NewV7()).String()
				}
				b.ReportAllocs()
				b.ResetTimer()
				for ; len(ids) > 0; ids = ids[size:] {
					require.NoError(b, db.InTx(b.Context(), func(ctx context.Context, tx *database.Tx) error {
						fresh, err := inbox.Mark(ctx, tx, "consumer", at, ids[:size]...)
						if err == nil && len(fresh) != size {
							b.Fatalf("%d of %d are new", len(fresh), size)
						}
						return err
					}))
				}
			})
		})
	}
}
