package stock

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
	"github.com/orderflow/orderflow/services/inventory/internal/store"
)

// TestReserveAndReleaseAtOnce: a reserve command that is redriven can be handled beside the order's release, and both
// find nothing. Whichever commits first, the other fails and finds its row in the next attempt: in the end the order
// holds nothing.
func TestReserveAndReleaseAtOnce(t *testing.T) {
	t.Parallel()
	e := event.Event{Key: "o"}
	lines := []events.Line{{SKU: "MUG-BLUE", Quantity: 1}, {SKU: "LAMP-LIMITED", Quantity: 2}}
	doReserve := func(ctx context.Context, tx *outbox.Tx) error {
		return reserve(ctx, tx, e, events.InventoryReserve{OrderID: "o", Lines: lines})
	}
	doRelease := func(ctx context.Context, tx *outbox.Tx) error {
		return release(ctx, tx, e, events.InventoryRelease{OrderID: "o", Reason: events.NewReason("test", "")})
	}
	type handler = func(context.Context, *outbox.Tx) error
	for name, tc := range map[string]struct{ first, second handler }{
		"release first": {doRelease, doReserve},
		"reserve first": {doReserve, doRelease},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				db := databasetest.Open(t, url, map[string]fs.FS{"service": store.Migrations(), "outbox": outbox.Migrations})
				out := outbox.New(db, event.NewFactory("/test"), outbox.Options{})
				second := func() error { return out.InTx(context.WithoutCancel(t.Context()), tc.second) }
				done := make(chan error, 1)
				require.NoError(t, out.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
					if err := errors.Join(tc.first(ctx, tx), tx.Flush(ctx), tx.Wait(ctx)); err != nil {
						return err
					}
					go func() { done <- second() }()
					return waits(t, db)
				}))
				if err := <-done; err != nil {
					require.True(t, database.IsUnique(err), "%v", err)
					require.NoError(t, second(), "the next attempt")
				}
				for _, sku := range []string{"MUG-BLUE", "LAMP-LIMITED"} {
					got, err := store.Get(t.Context(), db, sku)
					require.NoError(t, err)
					require.Equal(t, got.Received, got.Available, sku)
				}
				r, err := store.GetReservation(t.Context(), db, "o")
				require.NoError(t, err)
				require.Equal(t, rules.Released, r.State)
			})
		})
	}
}

// waits returns when another transaction waits for a lock of this one; on SQLite they all do, at their begin.
func waits(t *testing.T, db *database.DB) error {
	if db.Dialect() == database.Postgres {
		require.Eventually(t, func() bool {
			var n int
			err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
			return err == nil && n == 1
		}, 10*time.Second, time.Millisecond)
	}
	return nil
}
