package notification_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

func kinds(list []notificationapi.Notification) []string {
	var out []string
	for _, n := range list {
		out = append(out, n.OrderID+" "+n.Kind)
	}
	slices.Sort(out)
	return out
}

// Duplicates, the same transition under another id, events out of order, a refund of nothing: one notification each.
func TestOncePerTransition(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, testOncePerTransition)
}

func testOncePerTransition(t *testing.T, url string) {
	f := start(t, map[string]string{"DATABASE_URL": url})
	f.publish(cancelled("o-1", "c-1"), "o-1")
	first := f.publish(created("o-1", "c-1"), "o-1")
	for range 3 {
		f.again(events.TopicOrderCreated, first)
		f.publish(created("o-1", "c-1"), "o-1")
		f.publish(cancelled("o-1", "c-1"), "o-1")
	}
	f.publish(events.PaymentRefunded{OrderID: "o-1", CustomerID: "c-1", Amount: total, ProviderReference: "r"}, "o-1")
	f.publish(events.PaymentRefunded{OrderID: "o-2", CustomerID: "c-1", Amount: events.Money{Currency: "EUR"}}, "o-2")
	f.publish(events.OrderConfirmed{
		OrderID: "o-2", CustomerID: "c-1", Version: 2, Total: total, TrackingNumber: "T-1", Carrier: "Post", ConfirmedAt: time.Now().UTC(),
	}, "o-2")
	// The last word of each topic: once these are listed, all before them has been handled.
	f.publish(created("o-3", "c-1"), "o-1")
	f.publish(cancelled("o-3", "c-1"), "o-1")
	want := []string{
		"o-1 order_cancelled", "o-1 order_placed", "o-1 order_refunded", "o-2 order_confirmed", "o-3 order_cancelled", "o-3 order_placed",
	}
	require.Eventually(t, func() bool { return len(f.list("c-1")) == len(want) }, soon, tick)
	list := f.list("c-1")
	require.Equal(t, want, kinds(list))
	for i, n := range list {
		require.Equal(t, fmt.Sprintf("%d-0", i+1), n.Position)
		require.NotEmpty(t, n.Title)
		require.Contains(t, n.Text, "25.00 EUR")
		require.GreaterOrEqual(t, n.OrderVersion, int64(1))
	}
	require.Empty(t, f.letters(), "saying it again is no failure")
	// Redis holds the same, and no more.
	require.Eventually(t, func() bool {
		return f.rdb.XLen(t.Context(), "notifications:c-1").Val() == int64(len(want))
	}, soon, tick)
	require.Greater(t, f.rdb.TTL(t.Context(), "notifications:c-1").Val(), 700*time.Hour)
	totals := getJSON[notificationapi.DeliveryTotals](f, "/v1/deliveries/totals")
	require.Equal(t, int64(len(want)), totals.Notifications)
	require.Empty(t, totals.Channels)
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for path, where := range map[string]string{
		"/v1/customers/c%20d/notifications":                                           "customer_id",
		"/v1/customers/c-1/notifications?limit=0":                                     "limit",
		"/v1/customers/c-1/notifications?limit=x":                                     "limit",
		"/v1/customers/c-1/notifications?cursor=bm9uc2Vuc2U":                          "cursor",
		"/v1/customers/c-1/notifications/stream?last_event_id=yesterday":              "last_event_id",
		"/v1/customers/c-1/notifications/stream?last_event_id=5-3":                    "last_event_id",
		"/v1/customers/c-1/notifications/stream?last_event_id=99999999999999999999-0": "last_event_id",
	} {
		status, body := f.get(path)
		require.Equal(t, http.StatusBadRequest, status, "%s: %s", path, body)
		require.Contains(t, string(body), where, path)
	}
	status, body := f.get("/v1/customers/nobody/notifications")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"items":[]}`, string(body))

	// A record that breaks its schema is a dead letter and stops nothing.
	bad := created("o-1", "")
	f.publish(bad, "o-1")
	f.publish(created("o-1", "c-1"), "o-1")
	require.Eventually(t, func() bool { return len(f.list("c-1")) == 1 }, soon, tick)
	require.Eventually(t, func() bool {
		_, body := f.get("/admin/dead-letters?state=waiting")
		var page struct {
			Items []struct {
				ErrorType string `json:"error_type"`
			}
		}
		return json.Unmarshal(body, &page) == nil && len(page.Items) == 1 && page.Items[0].ErrorType == "undecodable"
	}, soon, tick)
}

// Redis is away: nothing is lost, readiness says so, and what waited arrives once it is back, empty or not.
func TestRedisRestart(t *testing.T) {
	t.Parallel()
	f := start(t, embedded())
	stream := f.follow("c-1", "0-0")
	f.publish(created("o-1", "c-1"), "o-1")
	require.Equal(t, "1-0", stream.next().id)

	kept, err := f.redis.Stream("notifications:c-1")
	require.NoError(t, err)
	f.redis.Close()
	f.ready(false)
	f.publish(created("o-2", "c-1"), "o-2")
	require.Eventually(t, func() bool { return len(f.list("c-1")) == 2 }, soon, tick)
	f.newRedis(map[string][]miniredis.StreamEntry{"notifications:c-1": kept})
	f.ready(true)
	require.Equal(t, "2-0", stream.next().id, "the open stream goes on")

	// It lost everything while nobody was connected.
	f.redis.FlushAll()
	f.publish(created("o-3", "c-1"), "o-3")
	require.Equal(t, "3-0", stream.next().id)
	resumed := f.follow("c-1", "1-0")
	reset := resumed.next()
	require.Equal(t, "reset", reset.name)
	require.Equal(t, "2-0", reset.id)
	require.JSONEq(t, `{"after":"1-0","position":"2-0","list":"/v1/customers/c-1/notifications"}`, reset.data)
	require.Equal(t, "3-0", resumed.next().id)

	// Empty, and nothing on its way: the client hears of it without a next notification.
	f.redis.FlushAll()
	empty := f.follow("c-1", "1-0")
	require.Equal(t, sseEvent{"3-0", "reset", `{"after":"1-0","position":"3-0","list":"/v1/customers/c-1/notifications"}`}, empty.next())
	f.publish(created("o-4", "c-1"), "o-4")
	require.Equal(t, "4-0", empty.next().id)
}
