package events

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// List is a slice that is [] in JSON even when it is nil: messages know no null.
type List[T any] []T

// MarshalJSON writes an array, whatever l is.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Money is an amount in minor units (cents), never a fraction.
type Money struct {
	// Amount is in minor units, 0 to 2^53-1.
	Amount int64 `json:"amount"`
	// Currency is an ISO 4217 code: "EUR".
	Currency string `json:"currency"`
}

// Address is where a parcel goes.
type Address struct {
	Name       string `json:"name"`
	Street     string `json:"street"`
	PostalCode string `json:"postal_code"`
	City       string `json:"city"`
	// Country is an ISO 3166-1 alpha-2 code: "DE".
	Country string `json:"country"`
}

// Line is so many pieces of one product.
type Line struct {
	SKU string `json:"sku"`
	// Quantity is 1 to 1000.
	Quantity int `json:"quantity"`
}

// PricedLine is a Line at the price that was valid when the order was placed.
type PricedLine struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	// UnitPrice is the price of one piece.
	UnitPrice Money `json:"unit_price"`
}

// Shortage is a product of which less was available than asked for.
type Shortage struct {
	SKU       string `json:"sku"`
	Requested int    `json:"requested"`
	Available int64  `json:"available"`
}

// Reason says why something did not go through, or is undone.
type Reason struct {
	// Code is for programs; lower case with underscores. Readers treat one that they do not know as a general failure.
	Code string `json:"code"`
	// Detail is for people; at most MaxDetail characters. NewReason sees to it.
	Detail string `json:"detail,omitempty"`
}

// Reason codes that Orderflow's own services use.
const (
	ReasonOutOfStock          = "out_of_stock"
	ReasonPaymentDeclined     = "payment_declined"
	ReasonShippingRefused     = "shipping_refused"
	ReasonCancelledByCustomer = "cancelled_by_customer"
	ReasonCancelledByOperator = "cancelled_by_operator"
	ReasonTimedOut            = "timed_out"
)

// MaxDetail is how many characters a Reason's Detail may have.
const MaxDetail = 500

// NewReason returns a Reason whose detail is made into what the schema allows: cut, and without control characters. Texts that come from outside
// (a provider's answer, an error) go through here, or the message that carries them might be refused.
func NewReason(code, detail string) Reason {
	detail = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return ' '
		}
		return c
	}, detail)
	if utf8.RuneCountInString(detail) > MaxDetail {
		detail = string([]rune(detail)[:MaxDetail-1]) + "…"
	}
	return Reason{Code: code, Detail: detail}
}
