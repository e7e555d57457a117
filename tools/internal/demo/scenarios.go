package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/client"
)

// scenario is one branch of the saga as it should go.
type scenario struct {
	name string
	// order is what is ordered; zero fields are the usual.
	order order
	// act does something with the order after it was placed.
	act func(ctx context.Context, s *show, id string) error
	// failure is why it is cancelled, empty for confirmed.
	failure string
	// What the participants say in the end; empty where they have never heard of it.
	payment, stock, parcel string
}

// order is what is asked for.
type order struct {
	customer, sku, token, city, country string
	quantity                            int
}

func (o order) request() orderapi.CreateOrderRequest {
	or := func(value, usual string) string {
		if value == "" {
			return usual
		}
		return value
	}
	return orderapi.CreateOrderRequest{
		CustomerID: or(o.customer, "grace"), PaymentMethod: or(o.token, "tok_approved"),
		Lines: []orderapi.Line{{SKU: or(o.sku, "MUG-BLUE"), Quantity: max(o.quantity, 1)}},
		ShippingAddress: orderapi.Address{
			Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: or(o.city, "Berlin"), Country: or(o.country, "DE"),
		},
	}
}

// scenarios are those that are through in a moment, and those that wait for a deadline.
func (s *show) scenarios() (quick, silent []scenario) {
	quick = []scenario{
		{name: "confirmed", order: order{customer: liveCustomer, quantity: 2}, payment: "charged", stock: "shipped", parcel: "arranged"},
		{name: "out of stock", order: order{sku: "GLOBE-RARE"}, failure: "out_of_stock", stock: "rejected"},
		{name: "payment declined", order: order{customer: liveCustomer, token: "tok_declined"}, failure: "payment_declined", payment: "declined", stock: "released"},
		{name: "insufficient funds", order: order{token: "tok_insufficient_funds", sku: "GRINDER-PRO"}, failure: "payment_declined", payment: "declined", stock: "released"},
		{name: "shipping refused", order: order{customer: liveCustomer, city: "McMurdo", country: "AQ"}, failure: "shipping_refused", payment: "refunded", stock: "released", parcel: "refused"},
		{name: "cancelled by the customer", order: order{token: "tok_slow"}, act: cancelInTime, failure: "cancelled_by_customer", payment: "*", stock: "released"},
		{name: "cancelled too late", act: cancelTooLate, payment: "charged", stock: "shipped", parcel: "arranged"},
		{name: "payment is slow", order: order{token: "tok_slow"}, payment: "charged", stock: "shipped", parcel: "arranged"},
		{name: "payment fails twice", order: order{token: "tok_fail_twice"}, payment: "charged", stock: "shipped", parcel: "arranged"},
		{name: "charged, but the answer is lost", order: order{token: "tok_ambiguous"}, payment: "charged", stock: "shipped", parcel: "arranged"},
		{name: "carrier fails twice", order: order{city: "Flakytown"}, payment: "charged", stock: "shipped", parcel: "arranged"},
	}
	silent = []scenario{
		{name: "payment stays silent", order: order{token: "tok_timeout"}, failure: "timed_out", payment: "voided", stock: "released"},
		{name: "carrier stays silent", order: order{city: "Failville"}, failure: "timed_out", payment: "refunded", stock: "released", parcel: "voided"},
	}
	return quick, silent
}

func cancelInTime(ctx context.Context, s *show, id string) error {
	_, err := s.system.Cancel(ctx, id)
	return err
}

func cancelTooLate(ctx context.Context, s *show, id string) error {
	if _, err := s.system.Ended(ctx, id); err != nil {
		return err
	}
	_, err := s.system.Cancel(ctx, id)
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		return nil
	}
	return fmt.Errorf("the cancel must be refused with 409, but: %w", err)
}

// play takes a scenario to its end.
func (s *show) play(ctx context.Context, sc scenario) Scenario {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	began := time.Now()
	r := Scenario{Name: sc.name, Expected: said(state(sc.failure), sc.failure, sc.payment, sc.stock, sc.parcel)}
	if err := s.try(ctx, sc, &r); err != nil {
		r.Wrong = append(r.Wrong, err.Error())
	}
	if r.Happened == "" {
		r.Happened = "it did not come to an end"
	}
	if r.Took == 0 {
		r.Took = time.Since(began).Seconds()
	}
	r.OK = len(r.Wrong) == 0
	return r
}

func (s *show) try(ctx context.Context, sc scenario, r *Scenario) error {
	o, err := s.system.Place(ctx, uuid.NewString(), sc.order.request())
	if err != nil {
		return err
	}
	r.OrderID = o.OrderID
	if sc.act != nil {
		if err := sc.act(ctx, s, o.OrderID); err != nil {
			return err
		}
	}
	if o, err = s.system.Ended(ctx, o.OrderID); err != nil {
		return err
	}
	r.Took = o.UpdatedAt.Sub(o.CreatedAt).Seconds()
	timeline, err := s.system.Timeline(ctx, o.OrderID)
	if err != nil {
		return err
	}
	for _, e := range timeline.Entries {
		r.Timeline = append(r.Timeline, Moment{After: e.At.Sub(timeline.StartedAt).Seconds(), Text: words(e)})
	}
	// The participants follow the order by a moment: shipped is written after confirmed.
	err = client.Eventually(ctx, func(ctx context.Context) error {
		payment, stock, parcel, err := s.participants(ctx, o.OrderID)
		if err != nil {
			return err
		}
		if sc.payment == "*" { // it depends on who was quicker
			payment = "*"
			r.Expected = said(state(sc.failure), sc.failure, "", sc.stock, sc.parcel)
		}
		code := ""
		if o.Failure != nil {
			code = o.Failure.Code
		}
		r.Happened = said(string(o.State), code, strings.TrimPrefix(payment, "*"), stock, parcel)
		if r.Happened != r.Expected {
			return errors.New(r.Happened)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("expected %s, happened %s", r.Expected, r.Happened)
	}
	return nil
}

func state(failure string) string {
	if failure == "" {
		return "confirmed"
	}
	return "cancelled"
}

// said puts an outcome into words.
func said(state, failure, payment, stock, parcel string) string {
	text := state
	if failure != "" {
		text += " (" + strings.ReplaceAll(failure, "_", " ") + ")"
	}
	for _, part := range []struct{ who, what string }{{"stock", stock}, {"payment", payment}, {"parcel", parcel}} {
		if part.what != "" {
			text += ", " + part.who + " " + part.what
		}
	}
	return text
}

// participants are what payment, inventory and shipping say of an order; empty where they have never heard of it.
func (s *show) participants(ctx context.Context, id string) (payment, stock, parcel string, err error) {
	p, err := s.system.Payment(ctx, id)
	if payment, err = known(string(p.State), err); err != nil {
		return "", "", "", err
	}
	r, err := s.system.Reservation(ctx, id)
	if stock, err = known(string(r.State), err); err != nil {
		return "", "", "", err
	}
	sh, err := s.system.Shipment(ctx, id)
	parcel, err = known(string(sh.State), err)
	return payment, stock, parcel, err
}

func known(state string, err error) (string, error) {
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return "", nil
	}
	return state, err
}

// words puts a timeline's entry shortly.
func words(e orderapi.TimelineEntry) string {
	text := e.Text
	for _, change := range [][2]string{
		{"command sent do ", "→ "}, {"command sent undo ", "→ undo "}, {"reply ", "← "},
	} {
		if rest, ok := strings.CutPrefix(text, change[0]); ok {
			return change[1] + strings.Replace(rest, " #1", "", 1)
		}
	}
	return text
}
