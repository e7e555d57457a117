package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/store"
)

var at = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, url string) {
		fn(t, databasetest.Open(t, url, map[string]fs.FS{"outbox": outbox.Migrations, "service": store.Migrations()}))
	})
}

func add(t *testing.T, db *database.DB, order string, when time.Time) (n rules.Notification, fresh bool) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) (err error) {
		n, fresh, err = store.Add(ctx, tx, rules.Notification{ID: order + "-k", CustomerID: "c", OrderID: order, Kind: "k", At: when}, when)
		return err
	}))
	return n, fresh
}

// What is past its retention goes, in batches; the customer's numbers go on.
func TestPurge(t *testing.T) {
	t.Parallel()
	each(t, testPurge)
}

func testPurge(t *testing.T, db *database.DB) {
	for i := range 5 {
		n, fresh := add(t, db, fmt.Sprint(i), at.Add(time.Duration(i)*time.Hour))
		require.True(t, fresh)
		require.Equal(t, int64(i+1), n.Number)
		require.Equal(t, int64(1), n.OrderVersion)
		require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
			store.PutDelivery(tx, store.Delivery{Channel: "webhook", NotificationID: n.ID, State: store.Delivered, Attempts: 1}, n.At)
			return nil
		}))
	}
	_, fresh := add(t, db, "4", at)
	require.False(t, fresh)

	before := at.Add(3*time.Hour + time.Minute)
	more, err := store.Purge(t.Context(), db, before, 3)
	require.NoError(t, err)
	require.True(t, more)
	more, err = store.Purge(t.Context(), db, before, 3)
	require.NoError(t, err)
	require.False(t, more)
	left, err := store.List(t.Context(), db, "c", 0, 10)
	require.NoError(t, err)
	require.Len(t, left, 1)
	totals, err := store.Count(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, store.Totals{Notifications: 1, Channels: map[string]map[store.State]int64{"webhook": {store.Delivered: 1}}}, totals)
	n, _ := add(t, db, "new", at)
	require.Equal(t, int64(6), n.Number)
}

// A delivery that is delivered stays so, whoever writes later.
func TestDeliveredStays(t *testing.T) {
	t.Parallel()
	each(t, testDeliveredStays)
}

func testDeliveredStays(t *testing.T, db *database.DB) {
	put := func(state store.State, attempts int) {
		require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
			store.PutDelivery(tx, store.Delivery{Channel: "webhook", NotificationID: "n", State: state, Attempts: attempts}, at)
			return nil
		}))
	}
	put(store.Waiting, 0)
	require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
		store.PutDelivery(tx, store.Delivery{Channel: "webhook", NotificationID: "n", State: store.Delivered, Attempts: 1}, at)
		store.PutDelivery(tx, store.Delivery{Channel: "webhook", NotificationID: "n", State: store.Failed, Attempts: 2}, at)
		return nil
	}))
	put(store.Failed, 2)
	d, err := store.GetDelivery(t.Context(), db, "webhook", "n")
	require.NoError(t, err)
	require.Equal(t, store.Delivered, d.State)
	require.Equal(t, 1, d.Attempts)
}

// What waits too long is found with its notification, once.
func TestOutstanding(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		n, _ := add(t, db, "o", at)
		find := func(now time.Time) (list []rules.Notification) {
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) (err error) {
				list, err = store.Outstanding(ctx, tx, "webhook", now.Add(-time.Minute), now, 10)
				return err
			}))
			return list
		}
		require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
			store.PutDelivery(tx, store.Delivery{Channel: "webhook", NotificationID: n.ID, State: store.Waiting}, at)
			return nil
		}))
		require.Empty(t, find(at))
		require.Equal(t, []rules.Notification{n}, find(at.Add(2*time.Minute)))
		require.Empty(t, find(at.Add(2*time.Minute)), "it has been touched")
		newest, written, err := store.Numbers{DB: db, FeedTopic: "x"}.Newest(t.Context(), "c")
		require.NoError(t, err)
		require.Equal(t, int64(1), newest)
		require.True(t, written)
		newest, _, err = store.Numbers{DB: db, FeedTopic: "x"}.Newest(t.Context(), "nobody")
		require.NoError(t, err)
		require.Zero(t, newest)
	})
}
