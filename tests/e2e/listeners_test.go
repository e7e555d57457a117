package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/tests/internal/shop"
	"github.com/orderflow/orderflow/tools/client"
)

// collect follows a customer's stream until it has had n events.
func collect(t *testing.T, customer, after string, n int) []client.StreamEvent {
	t.Helper()
	var got []client.StreamEvent
	err := system.Follow(shop.Context(t), customer, after, nil, func(e client.StreamEvent) error {
		if got = append(got, e); len(got) == n {
			return client.ErrStop
		}
		return nil
	})
	require.NoError(t, err, "after %d events", len(got))
	return got
}

// live follows a customer's stream from now on and returns, once it stands, what waits for its first n events.
func live(t *testing.T, customer string, n int) (wait func() []client.StreamEvent) {
	t.Helper()
	ctx := shop.Context(t)
	opened, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	var got []client.StreamEvent
	go func() {
		done <- system.Follow(ctx, customer, "", func(string) { once.Do(func() { close(opened) }) }, func(e client.StreamEvent) error {
			if got = append(got, e); len(got) == n {
				return client.ErrStop
			}
			return nil
		})
	}()
	select {
	case <-opened:
	case err := <-done:
		require.NoError(t, err)
		require.Fail(t, "the stream ended")
	}
	return func() []client.StreamEvent {
		t.Helper()
		require.NoError(t, <-done, "after %d events", len(got))
		return got
	}
}

func told(t *testing.T, e client.StreamEvent) notificationapi.Notification {
	t.Helper()
	require.Equal(t, "notification", e.Name)
	var n notificationapi.Notification
	require.NoError(t, json.Unmarshal([]byte(e.Data), &n))
	require.Equal(t, e.ID, n.Position)
	return n
}

func TestNotificationsLiveAndAfterABreak(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	wait := live(t, c.ID, 4)
	first := c.Buy()
	second := c.Buy(shop.Paying("tok_declined"))
	events := wait()

	kinds := map[string]map[string]int{first.OrderID: {}, second.OrderID: {}}
	for _, e := range events {
		n := told(t, e)
		require.Equal(t, c.ID, n.CustomerID)
		require.NotEmpty(t, n.Title)
		require.NotEmpty(t, n.Text)
		kinds[n.OrderID][n.Kind]++
	}
	require.Equal(t, map[string]map[string]int{
		first.OrderID: {"order_placed": 1, "order_confirmed": 1}, second.OrderID: {"order_placed": 1, "order_cancelled": 1},
	}, kinds)

	// Wherever the connection broke, what follows comes once and nothing is missing; also from the very beginning.
	for i := range events[:3] {
		require.Equal(t, events[i+1:], collect(t, c.ID, events[i].ID, 3-i), "after %s", events[i].ID)
	}
	require.Equal(t, events, collect(t, c.ID, "0-0", 4))

	// A break while things go on.
	third := c.Place()
	rest := collect(t, c.ID, events[3].ID, 2)
	require.Equal(t, third.OrderID, told(t, rest[0]).OrderID)
	require.Equal(t, third.OrderID, told(t, rest[1]).OrderID)

	// The list says the same, the newest first.
	list, err := system.AllNotifications(shop.Context(t), c.ID)
	require.NoError(t, err)
	require.Len(t, list, 6)
	for i, e := range append(events, rest...) {
		require.Equal(t, told(t, e), list[len(list)-1-i])
	}
}

// TestResetWhenThePositionIsGone trims the stream as Redis does when it is full.
func TestResetWhenThePositionIsGone(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	wait := live(t, c.ID, 4)
	c.Buy()
	c.Buy()
	events := wait()
	require.NoError(t, system.Redis.XTrimMaxLen(shop.Context(t), "notifications:"+c.ID, 1).Err())

	got := collect(t, c.ID, events[0].ID, 2)
	require.Equal(t, "reset", got[0].Name)
	require.Equal(t, events[3], got[1], "after the reset it goes on with what is there")
	// Who has seen all but the last has missed nothing.
	require.Equal(t, events[3:], collect(t, c.ID, events[2].ID, 1))
	// What is gone from the stream is still in the list.
	list, err := system.AllNotifications(shop.Context(t), c.ID)
	require.NoError(t, err)
	require.Len(t, list, 4)
}

func TestManyFollowersHearTheSame(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	var waits []func() []client.StreamEvent
	for range 8 {
		waits = append(waits, live(t, c.ID, 2))
	}
	other := system.Customer(t)
	other.Buy()
	c.Buy()
	first := waits[0]()
	for _, wait := range waits[1:] {
		require.Equal(t, first, wait())
	}
}

// totals waits until analytics says of a customer what was placed.
func totals(t *testing.T, customer string, confirmed, cancelled, spent int64) {
	t.Helper()
	shop.Eventually(t, func(ctx context.Context) error {
		got, err := system.CustomerTotals(ctx, customer)
		if err != nil {
			return err
		}
		var sum int64
		for _, m := range got.Spent {
			sum += m.Amount
		}
		if got.Orders.Confirmed != confirmed || got.Orders.Cancelled != cancelled || got.Orders.Pending != 0 ||
			got.Orders.Total != confirmed+cancelled || sum != spent {
			return fmt.Errorf("the totals of %s are %+v and %d, must be %d confirmed, %d cancelled and %d", customer, got.Orders, sum, confirmed, cancelled, spent)
		}
		return nil
	})
}

func TestFiguresMoveByWhatWasOrdered(t *testing.T) {
	t.Parallel()
	ctx := shop.Context(t)
	before, err := system.Figures(ctx)
	require.NoError(t, err)
	from := time.Now().UTC()

	c := system.Customer(t)
	var spent int64
	for range 3 {
		o := c.Buy(shop.Of(2, "KETTLE-STEEL"))
		shop.Confirmed(t, o)
		spent += o.Total.Amount
	}
	for range 2 {
		shop.Cancelled(t, c.Buy(shop.Paying("tok_declined")), "payment_declined")
	}
	totals(t, c.ID, 3, 2, spent)

	// Others order at the same time, so the whole moves by at least as much.
	after, err := system.Figures(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, after.Orders.Confirmed-before.Orders.Confirmed, int64(3))
	require.GreaterOrEqual(t, after.Orders.Cancelled-before.Orders.Cancelled, int64(2))
	require.GreaterOrEqual(t, amount(after.Revenue)-amount(before.Revenue), spent)
	require.Equal(t, after.Orders.Total, after.Orders.Pending+after.Orders.Confirmed+after.Orders.Cancelled)

	from, to := from.Truncate(time.Minute), time.Now().UTC().Add(time.Minute)
	a, err := system.Analytics.GetOrdersPerMinuteWithResponse(ctx, &analyticsapi.GetOrdersPerMinuteParams{From: &from, To: &to})
	require.NoError(t, err)
	require.NotNil(t, a.JSON200, "%s", a.Body)
	var created, confirmed, cancelled int64
	for _, w := range a.JSON200.Windows {
		require.Zero(t, w.Start.Second()+w.Start.Nanosecond(), "a window begins with its minute")
		created, confirmed, cancelled = created+w.Created, confirmed+w.Confirmed, cancelled+w.Cancelled
	}
	require.GreaterOrEqual(t, created, int64(5))
	require.GreaterOrEqual(t, confirmed, int64(3))
	require.GreaterOrEqual(t, cancelled, int64(2))
}

func amount(money []analyticsapi.Money) (sum int64) {
	for _, m := range money {
		sum += m.Amount
	}
	return sum
}

func TestNobodyKnowsAStranger(t *testing.T) {
	t.Parallel()
	ctx, stranger := shop.Context(t), system.NewID("stranger")
	list, err := system.AllNotifications(ctx, stranger)
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = system.CustomerTotals(ctx, stranger)
	var refused *client.Refused
	if errors.As(err, &refused) {
		require.Equal(t, 404, refused.Status)
		return
	}
	require.NoError(t, err)
	totals(t, stranger, 0, 0, 0)
}
