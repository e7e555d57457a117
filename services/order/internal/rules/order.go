package rules

import (
	"errors"
	"fmt"
	"time"

	"github.com/orderflow/orderflow/api/events"
)

// State of an order, as customers see it.
type State string

// An order is pending until its saga ends; it is cancelling while what had been done for it is being undone.
const (
	Pending    State = "pending"
	Cancelling State = "cancelling"
	Confirmed  State = "confirmed"
	Cancelled  State = "cancelled"
)

// Bounds of an order; the contracts say so too.
const (
	MaxLines    = 50
	MaxQuantity = 1000
	// MaxTotal is in minor units: what every JSON reader keeps exactly.
	MaxTotal = 1<<53 - 1
)

// Product is something that can be ordered.
type Product struct {
	SKU   string
	Name  string
	Price events.Money
}

// Item is a line as the customer asks for it.
type Item struct {
	SKU      string
	Quantity int
}

// Line is an item with the price it is sold at.
type Line struct {
	Product
	Quantity int
	Total    events.Money
}

// Order is one order. Its fields change through its methods only; a store fills them from a row.
type Order struct {
	ID              string
	CustomerID      string
	State           State
	Version         int64
	Lines           []Line
	Total           events.Money
	ShippingAddress events.Address
	PaymentMethod   string
	// Failure is why the order is cancelling or cancelled, nil otherwise.
	Failure        *events.Reason
	Carrier        string
	TrackingNumber string
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// LineError is what is wrong with one line of a request.
type LineError struct {
	Index int
	// Field is "sku" or "quantity".
	Field string
	// Allowed says what would be right.
	Allowed string
}

func (e LineError) Error() string {
	return fmt.Sprintf("lines[%d].%s: %s", e.Index, e.Field, e.Allowed)
}

// Request is what a customer asks for.
type Request struct {
	ID              string
	CustomerID      string
	Items           []Item
	ShippingAddress events.Address
	PaymentMethod   string
	At              time.Time
}

// Place prices a request from the catalogue. The error joins a LineError for every line that cannot be sold.
func Place(r Request, catalogue map[string]Product) (Order, error) {
	if len(r.Items) == 0 || len(r.Items) > MaxLines {
		return Order{}, fmt.Errorf("an order has 1 to %d lines, not %d", MaxLines, len(r.Items))
	}
	o := Order{
		ID: r.ID, CustomerID: r.CustomerID, State: Pending, Version: 1, ShippingAddress: r.ShippingAddress,
		PaymentMethod: r.PaymentMethod, CreatedAt: r.At.UTC(), UpdatedAt: r.At.UTC(),
	}
	var errs []error
	first := map[string]int{}
	for i, item := range r.Items {
		product, known := catalogue[item.SKU]
		earlier, twice := first[item.SKU]
		switch {
		case !known:
			errs = append(errs, LineError{i, "sku", "must be the SKU of a product in /v1/products"})
		case twice:
			errs = append(errs, LineError{i, "sku", fmt.Sprintf("must be named once; line %d has it already", earlier)})
		case item.Quantity < 1 || item.Quantity > MaxQuantity:
			errs = append(errs, LineError{i, "quantity", fmt.Sprintf("must be from 1 to %d", MaxQuantity)})
		case o.Total.Currency != "" && o.Total.Currency != product.Price.Currency:
			errs = append(errs, LineError{i, "sku", "must be sold in " + o.Total.Currency + " like the lines before it"})
		case product.Price.Amount > (MaxTotal-o.Total.Amount)/int64(item.Quantity):
			errs = append(errs, LineError{i, "quantity", fmt.Sprintf("must be less: an order is worth at most %d minor units", int64(MaxTotal))})
		default:
			line := Line{Product: product, Quantity: item.Quantity, Total: product.Price}
			line.Total.Amount *= int64(item.Quantity)
			o.Total.Currency = product.Price.Currency
			o.Total.Amount += line.Total.Amount
			o.Lines = append(o.Lines, line)
		}
		if !twice {
			first[item.SKU] = i
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Order{}, err
	}
	return o, nil
}

// Final tells whether nothing will change any more.
func (o *Order) Final() bool { return o.State == Confirmed || o.State == Cancelled }

// Ship notes where the parcel can be followed; it is part of the change that Confirm makes.
func (o *Order) Ship(carrier, trackingNumber string) {
	o.Carrier, o.TrackingNumber = carrier, trackingNumber
}

// Confirm ends the order well.
func (o *Order) Confirm(at time.Time) {
	o.change(Confirmed, at)
}

// Undo begins to cancel the order; the first reason stands.
func (o *Order) Undo(why events.Reason, at time.Time) {
	if o.State == Pending {
		o.Failure = &why
		o.change(Cancelling, at)
	}
}

// Cancel ends the order badly.
func (o *Order) Cancel(why events.Reason, at time.Time) {
	if o.Failure == nil {
		o.Failure = &why
	}
	o.Carrier, o.TrackingNumber = "", ""
	o.change(Cancelled, at)
}

func (o *Order) change(to State, at time.Time) {
	o.State = to
	o.Version++
	o.UpdatedAt = at.UTC()
}
