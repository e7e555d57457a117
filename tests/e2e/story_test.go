package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tests/internal/shop"
	"github.com/orderflow/orderflow/tools/topics"
)

// traced places an order as a caller does who has a trace and names the request.
func traced(t *testing.T, c *shop.Customer, requestID, traceID string, options ...shop.Option) orderapi.Order {
	t.Helper()
	a := system.Send(t, http.MethodPost, "order", "/v1/orders", shop.JSON(t, c.Request(options...)),
		"Idempotency-Key", c.NewID("key"), "X-Request-Id", requestID, "traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
	require.Equal(t, requestID, a.Header.Get("X-Request-Id"))
	var o orderapi.Order
	require.NoError(t, json.Unmarshal(a.Body, &o))
	require.Equal(t, "/v1/orders/"+o.OrderID, a.Header.Get("Location"))
	require.Equal(t, `"1"`, a.Header.Get("ETag"))
	return o
}

// story waits until an order's story in the topics has these types, in whatever order, and checks it whole.
func story(t *testing.T, orderID string, outer []string, types ...string) []topics.Entry {
	t.Helper()
	var entries []topics.Entry
	shop.Eventually(t, func(ctx context.Context) (err error) {
		if entries, err = system.Topics.Story(ctx, orderID); err != nil {
			return err
		}
		missing := map[string]int{}
		for _, typ := range types {
			missing[typ]++
		}
		for _, e := range entries {
			missing[e.Event.Type]--
		}
		for typ, n := range missing {
			if n != 0 {
				return fmt.Errorf("the story of order %s has %d of %s too few", orderID, n, typ)
			}
		}
		return nil
	})
	require.Empty(t, topics.Check(entries, outer...))
	return entries
}

// TestAnOrdersWholeStoryStandsInTheTopics reads it from there alone: envelopes, keys, correlation, causes without a
// gap back to the request, and the caller's own trace up to the last message.
func TestAnOrdersWholeStoryStandsInTheTopics(t *testing.T) {
	t.Parallel()
	forward := []string{"order.created", "inventory.reserve", "inventory.reserved", "payment.charge", "payment.charged", "shipping.arrange"}
	for _, tc := range []struct {
		name, trace string
		options     []shop.Option
		types       []string
	}{
		{
			"confirmed", "4bf92f3577b34da6a3ce929d0e0e4731", nil,
			append(forward[:len(forward):len(forward)], "shipping.arranged", "order.confirmed"),
		},
		{
			"shipping refused", "4bf92f3577b34da6a3ce929d0e0e4732", []shop.Option{shop.To("McMurdo", "AQ")},
			append(forward[:len(forward):len(forward)], "shipping.failed", "payment.refund", "payment.refunded",
				"inventory.release", "inventory.released", "order.cancelled"),
		},
		{
			"out of stock", "4bf92f3577b34da6a3ce929d0e0e4733", []shop.Option{shop.Of(1, "GLOBE-RARE")},
			[]string{"order.created", "inventory.reserve", "inventory.rejected", "order.cancelled"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := system.Customer(t)
			request := c.NewID("request")
			o := traced(t, c, request, tc.trace, tc.options...)
			entries := story(t, o.OrderID, []string{request}, tc.types...)
			for _, e := range entries {
				require.Equal(t, tc.trace, topics.TraceID(e.Event), "%s", e.Event.Type)
				require.Equal(t, o.OrderID, e.Event.CorrelationID, "%s", e.Event.Type)
			}
			require.Equal(t, request, entries[0].Event.CausationID)
			// Every message is its cause's effect, so from the last one leads a way back to the request.
			last, steps := entries[len(entries)-1], 0
			byID := map[string]topics.Entry{}
			for _, e := range entries {
				byID[e.Event.ID] = e
			}
			for last.Event.CausationID != request {
				next, ok := byID[last.Event.CausationID]
				require.True(t, ok, "the cause of %s is not in the story", last.Event.Type)
				require.Less(t, steps, len(entries), "the causes go round in a circle")
				last = next
				steps++
			}
		})
	}
}

// TestACancelsStory has two requests in one story: what follows from the cancel is caused by it.
func TestACancelsStory(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	placed, cancel := c.NewID("request"), c.NewID("request")
	o := traced(t, c, placed, "4bf92f3577b34da6a3ce929d0e0e4734", shop.Paying("tok_slow"))
	a := system.Send(t, http.MethodPost, "order", "/v1/orders/"+o.OrderID+"/cancel", nil, "X-Request-Id", cancel)
	require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
	shop.Cancelled(t, c.Await(o.OrderID), "cancelled_by_customer")

	entries, err := system.Topics.Story(shop.Context(t), o.OrderID)
	require.NoError(t, err)
	require.Empty(t, topics.Check(entries, placed, cancel))
	caused := 0
	for _, e := range entries {
		if e.Event.CausationID == cancel {
			caused++
		}
	}
	require.Equal(t, 1, caused, "the cancel must lead to one compensation at first")
}
