package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/internal/shop"
)

// TestOrderTimeline has a charge that becomes a dead letter, fails again, is mended and redriven, and then the order is
// confirmed: one list tells all of it in its order, with causes.
func TestOrderTimeline(t *testing.T) {
	t.Parallel()
	orderctl := orderctl(t)
	if orderctl == nil {
		return
	}
	c := system.Customer(t)
	id := c.Place(shop.Paying("tok_timeout")).OrderID
	broken, parked := blocked(t, orderctl, id)
	letter := system.DeadLetter(t, "payment", shop.About(id)).ID
	whole, err := system.Letter(shop.Context(t), "payment", letter)
	require.NoError(t, err)
	require.NotNil(t, whole.Value)
	press := func(verb, reason string, more ...string) {
		t.Helper()
		orderctl(0, append([]string{"dlq", verb, letter, "--service=payment", "--actor=ada", "--reason=" + reason}, more...)...)
	}
	press("edit", "does it need a body", "--value={}")
	press("redrive", "try without one")
	shop.Eventually(t, again("payment", letter, 2))
	press("edit", "another card", "--value="+strings.Replace(*whole.Value, "tok_timeout", "tok_approved", 1))
	press("redrive", "they pay by another card")
	shop.Eventually(t, parked("payment.charged"))
	orderctl(0, "dlq", "discard", broken, "--service=order", "--actor=bob", "--reason=it is no message")
	shop.Confirmed(t, c.Await(id))

	shop.Eventually(t, func(context.Context) error {
		return inOrder(orderctl(0, "order", "timeline", id),
			" is confirmed, its saga completed",
			"order placed", "a request of customer "+c.ID,
			"command sent do reserve_stock",
			"command sent do charge_payment",
			" order ", "inventory.reserved given up after 0 retries: dead letter "+broken, "undecodable: ",
			" payment ", "payment.charge given up after ", "retries: dead letter "+letter, "transient: ",
			"edit of dead letter "+letter, "operator ada: does it need a body (2 bytes in the place of ",
			"redrive of dead letter "+letter, "operator ada: try without one",
			"payment.charge given up after 0 retries, the 2. time: dead letter "+letter, "undecodable: ",
			"edit of dead letter "+letter, "operator ada: another card",
			"redrive of dead letter "+letter, "operator ada: they pay by another card",
			"dead letter "+letter+" is redriven",
			"discard of dead letter "+broken, "operator bob: it is no message",
			"reply charge_payment: done",
			"command sent do arrange_shipping",
			"reply arrange_shipping: done",
			"finished: completed",
			"customer told: Your order is confirmed", "order_confirmed",
		)
	})
	type moment struct {
		At         time.Time
		From, Kind string
	}
	var list struct {
		Moments []moment
		Missing []string
	}
	shop.Eventually(t, func(context.Context) error {
		if err := json.Unmarshal([]byte(orderctl(0, "order", "timeline", id, "--json")), &list); err != nil {
			return err
		}
		if told := slices.DeleteFunc(slices.Clone(list.Moments), func(m moment) bool { return m.Kind != "notification" }); len(told) != 2 {
			return fmt.Errorf("the customer was told of order %s so often, must be 2: %v", id, told)
		}
		return nil
	})
	require.Empty(t, list.Missing)
	require.True(t, slices.IsSortedFunc(list.Moments, func(a, b moment) int { return a.At.Compare(b.At) }))
	byPayment := []string{}
	for _, m := range list.Moments {
		if m.From == "payment" {
			byPayment = append(byPayment, m.Kind)
		}
	}
	require.Equal(t, []string{
		"dead_letter", "dead_letter_edit", "dead_letter_redrive", "dead_letter", "dead_letter_edit", "dead_letter_redrive", "dead_letter_redriven",
	}, byPayment)
}

// inOrder holds a text against what must stand in it, one behind the other.
func inOrder(text string, parts ...string) error {
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return fmt.Errorf("%q is not where it must be in\n%s", part, text)
		}
		rest = after
	}
	return nil
}
