package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tests/internal/shop"
	"github.com/orderflow/orderflow/tools/client"
)

// nothing stands for a participant that has never heard of the order.
const nothing = ""

func TestEveryBranchOfTheSaga(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		options []shop.Option
		// failure is why the order is cancelled; empty means confirmed.
		failure string
		// What the participants say in the end.
		payment, reservation, shipment string
		told                           []string
	}{
		{name: "confirmed", payment: "charged", reservation: "shipped", shipment: "arranged"},
		{name: "out of stock", options: []shop.Option{shop.Of(1, "GLOBE-RARE")}, failure: "out_of_stock", payment: nothing, reservation: "rejected", shipment: nothing},
		{name: "declined", options: []shop.Option{shop.Paying("tok_declined")}, failure: "payment_declined", payment: "declined", reservation: "released", shipment: nothing},
		{name: "insufficient funds", options: []shop.Option{shop.Paying("tok_insufficient_funds")}, failure: "payment_declined", payment: "declined", reservation: "released", shipment: nothing},
		{name: "unknown token", options: []shop.Option{shop.Paying("tok_of_nobody")}, failure: "payment_declined", payment: "declined", reservation: "released", shipment: nothing},
		{name: "shipping refused", options: []shop.Option{shop.To("McMurdo", "AQ")}, failure: "shipping_refused", payment: "refunded", reservation: "released", shipment: "refused"},
		{name: "slow payment", options: []shop.Option{shop.Paying("tok_slow")}, payment: "charged", reservation: "shipped", shipment: "arranged"},
		{name: "payment fails twice", options: []shop.Option{shop.Paying("tok_fail_twice")}, payment: "charged", reservation: "shipped", shipment: "arranged"},
		{name: "the payment's answer is lost", options: []shop.Option{shop.Paying("tok_ambiguous")}, payment: "charged", reservation: "shipped", shipment: "arranged"},
		{name: "slow carrier", options: []shop.Option{shop.To("Slowtown", "DE")}, payment: "charged", reservation: "shipped", shipment: "arranged"},
		{name: "carrier fails twice", options: []shop.Option{shop.To("Flakytown", "DE")}, payment: "charged", reservation: "shipped", shipment: "arranged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := system.Customer(t)
			o := c.Buy(tc.options...)
			told := []string{"order_placed", "order_confirmed"}
			if tc.failure == "" {
				shop.Confirmed(t, o)
			} else {
				shop.Cancelled(t, o, tc.failure)
				told = []string{"order_placed", "order_cancelled"}
				if tc.payment == "refunded" {
					told = append(told, "order_refunded")
				}
			}
			participants(t, o, tc.payment, tc.reservation, tc.shipment)
			hears(t, c.ID, o.OrderID, told...)

			timeline, err := system.Timeline(shop.Context(t), o.OrderID)
			require.NoError(t, err)
			require.Equal(t, o.State, timeline.State)
			require.NotNil(t, timeline.EndedAt)
			require.NotEmpty(t, timeline.Entries)
			for _, step := range timeline.Steps {
				require.Contains(t, []orderapi.StepStatus{"done", "failed", "undone", "skipped"}, step.Status, "step %s", step.Name)
			}
		})
	}
}

// participants waits until payment, inventory and shipping say what they should, and checks the money.
func participants(t *testing.T, o orderapi.Order, payment, reservation, shipment string) {
	t.Helper()
	shop.Eventually(t, func(ctx context.Context) error {
		p, err := system.Payment(ctx, o.OrderID)
		if err := says("payment", string(p.State), payment, err); err != nil {
			return err
		}
		if payment == "charged" && p.Amount.Amount != o.Total.Amount {
			return fmt.Errorf("%d is charged for an order of %d", p.Amount.Amount, o.Total.Amount)
		}
		if payment == "refunded" && p.Refunded.Amount != o.Total.Amount {
			return fmt.Errorf("%d is refunded for an order of %d", p.Refunded.Amount, o.Total.Amount)
		}
		r, err := system.Reservation(ctx, o.OrderID)
		if err := says("reservation", string(r.State), reservation, err); err != nil {
			return err
		}
		s, err := system.Shipment(ctx, o.OrderID)
		return says("shipment", string(s.State), shipment, err)
	})
}

func says(who, got, want string, err error) error {
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		got, err = nothing, nil
	}
	if err == nil && got != want {
		err = fmt.Errorf("%s is %q, must be %q", who, got, want)
	}
	return err
}

// hears waits until a customer has been told exactly those things of an order.
func hears(t *testing.T, customer, orderID string, kinds ...string) {
	t.Helper()
	shop.Eventually(t, func(ctx context.Context) error {
		all, err := system.AllNotifications(ctx, customer)
		if err != nil {
			return err
		}
		heard := map[string]int{}
		for _, n := range all {
			if n.OrderID == orderID {
				heard[n.Kind]++
			}
		}
		for _, kind := range kinds {
			if heard[kind] != 1 {
				return fmt.Errorf("%s was told %d times of order %s, must be once", kind, heard[kind], orderID)
			}
		}
		if len(heard) != len(kinds) {
			return fmt.Errorf("order %s: the customer heard %v, must be %v", orderID, heard, kinds)
		}
		return nil
	})
}

func TestCancelRightAfterPlacing(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	o := c.Place(shop.Paying("tok_slow")) // so that the cancel comes before the money
	o, err := system.Cancel(shop.Context(t), o.OrderID)
	require.NoError(t, err)
	require.Equal(t, orderapi.OrderStateCancelling, o.State)
	o = c.Await(o.OrderID)
	shop.Cancelled(t, o, "cancelled_by_customer")

	// Cancelling what is cancelled changes nothing.
	again, err := system.Cancel(shop.Context(t), o.OrderID)
	require.NoError(t, err)
	require.Equal(t, o, again)
	shop.Eventually(t, func(ctx context.Context) error {
		r, err := system.Reservation(ctx, o.OrderID)
		return says("reservation", string(r.State), "released", err)
	})
}

func TestCancelAfterConfirmed(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	o := c.Buy()
	shop.Confirmed(t, o)
	_, err := system.Cancel(shop.Context(t), o.OrderID)
	var refused *client.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusConflict, refused.Status)
	require.Contains(t, refused.Detail, "confirmed")
	require.Equal(t, o, c.Await(o.OrderID))
	participants(t, o, "charged", "shipped", "arranged")
}

// TestCancelAtAnyMoment cancels orders when their stories have come so far, and ends each either way but never half.
func TestCancelAtAnyMoment(t *testing.T) {
	t.Parallel()
	r := system.Rand(t)
	c := system.Customer(t)
	ctx := shop.Context(t)
	tokens := []string{"tok_approved", "tok_approved", "tok_fail_twice", "tok_ambiguous", "tok_declined"}
	type plan struct {
		token  string
		length int
	}
	var wait sync.WaitGroup
	ends := make(chan error, 60)
	for range cap(ends) {
		p := plan{tokens[r.IntN(len(tokens))], r.IntN(9)}
		wait.Go(func() { ends <- cancelAt(ctx, c, p.token, p.length) })
	}
	wait.Wait()
	close(ends)
	for err := range ends {
		require.NoError(t, err)
	}
	// Nothing is half done: money only for what is confirmed.
	orders, err := system.AllOrders(ctx, c.ID)
	require.NoError(t, err)
	require.Len(t, orders, cap(ends))
	for _, o := range orders {
		shop.Eventually(t, func(ctx context.Context) error { return consistent(ctx, o) })
	}
}

// cancelAt cancels an order once its story has so many entries or is over.
func cancelAt(ctx context.Context, c *shop.Customer, token string, length int) error {
	o, err := c.System.Place(ctx, c.NewID("key"), c.Request(shop.Paying(token)))
	if err != nil {
		return err
	}
	err = client.Eventually(ctx, func(ctx context.Context) error {
		story, err := system.Timeline(ctx, o.OrderID)
		if err == nil && len(story.Entries) < length && story.EndedAt == nil {
			err = fmt.Errorf("order %s has %d entries", o.OrderID, len(story.Entries))
		}
		return err
	})
	if err != nil {
		return err
	}
	_, refusal := system.Cancel(ctx, o.OrderID)
	o, err = system.Ended(ctx, o.OrderID)
	if err != nil {
		return err
	}
	var refused *client.Refused
	switch {
	case refusal == nil && o.State == orderapi.OrderStateCancelled:
		return nil
	case errors.As(refusal, &refused) && refused.Status == http.StatusConflict && o.State == orderapi.OrderStateConfirmed:
		return nil
	}
	return fmt.Errorf("order %s is %s after its cancel was answered with: %w", o.OrderID, o.State, refusal)
}

// consistent holds an ended order against its participants.
func consistent(ctx context.Context, o orderapi.Order) error {
	p, err := system.Payment(ctx, o.OrderID)
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		err = nil
	}
	if err != nil {
		return err
	}
	r, err := system.Reservation(ctx, o.OrderID)
	if err != nil {
		return err
	}
	confirmed := o.State == orderapi.OrderStateConfirmed
	if (p.State == "charged") != confirmed || (r.State == "shipped") != confirmed || r.State == "reserved" {
		return fmt.Errorf("order %s is %s, its payment %q, its reservation %q", o.OrderID, o.State, p.State, r.State)
	}
	return nil
}

// TestSilentParticipant has a provider that never answers: the command ends in the dead letters, the order is cancelled
// by its deadline, and the dead letter does no harm when it is redriven.
func TestSilentParticipant(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, service     string
		options           []shop.Option
		payment, shipment string
	}{
		{name: "payment", service: "payment", options: []shop.Option{shop.Paying("tok_timeout")}, payment: "voided", shipment: nothing},
		{name: "carrier", service: "shipping", options: []shop.Option{shop.To("Failville", "DE")}, payment: "refunded", shipment: "voided"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := system.Customer(t)
			o := c.Place(tc.options...)
			l := system.DeadLetter(t, tc.service, shop.About(o.OrderID))
			require.Equal(t, letters.ErrorTypeTransient, l.ErrorType)
			require.Equal(t, tc.service+".commands", l.Topic)
			require.Equal(t, tc.service, l.Group)
			require.Positive(t, l.Retries)

			o = c.Await(o.OrderID)
			shop.Cancelled(t, o, "timed_out")
			participants(t, o, tc.payment, "released", tc.shipment)

			system.Redriven(t, tc.service, l.ID)
			participants(t, o, tc.payment, "released", tc.shipment)
			require.Equal(t, o, c.Await(o.OrderID))
		})
	}
}
