package rules

import (
	"fmt"
	"strings"
	"time"

	"github.com/orderflow/orderflow/api/events"
)

// Kinds of notifications, an open vocabulary: readers ignore one that they do not know.
const (
	OrderPlaced    = "order_placed"
	OrderConfirmed = "order_confirmed"
	OrderCancelled = "order_cancelled"
	OrderRefunded  = "order_refunded"
)

// IDs are those that the notifications of an order can have.
func IDs(orderID string) []string {
	return []string{id(orderID, OrderPlaced), id(orderID, OrderConfirmed), id(orderID, OrderCancelled), id(orderID, OrderRefunded)}
}

func id(orderID, kind string) string { return orderID + "-" + kind }

// Bounds of the words, in characters; the REST contract has them too.
const (
	maxTitle = 200
	maxText  = 2000
)

// Notification is what a customer should know of one transition of one order.
type Notification struct {
	// ID is the same on every channel and however often the transition is worked out.
	ID         string
	CustomerID string
	// Number counts the customer's notifications from 1, without gaps. The store gives it.
	Number  int64
	OrderID string
	// OrderVersion is the order's version that this speaks of; 0 when the event names none.
	OrderVersion int64
	Kind         string
	Title        string
	Text         string
	// At is when it happened, in UTC, to the microsecond.
	At time.Time
}

func notification(kind, orderID, customerID string, version int64, at time.Time, title, text string) Notification {
	return Notification{
		ID: id(orderID, kind), CustomerID: customerID, OrderID: orderID, OrderVersion: version, Kind: kind,
		Title: cut(title, maxTitle), Text: cut(text, maxText),
		// As fine as every database keeps it: the list, which reads the row, and the stream must say the same.
		At: at.UTC().Truncate(time.Microsecond),
	}
}

// Placed says that the order has come in.
func Placed(e events.OrderCreated) Notification {
	return notification(OrderPlaced, e.OrderID, e.CustomerID, e.Version, e.CreatedAt, "We have your order",
		fmt.Sprintf("Your order of %s (%s) has arrived, and we are working on it.", Money(e.Total), pieces(e.Lines)))
}

// Confirmed says that the order is paid and on its way.
func Confirmed(e events.OrderConfirmed) Notification {
	return notification(OrderConfirmed, e.OrderID, e.CustomerID, e.Version, e.ConfirmedAt, "Your order is confirmed",
		fmt.Sprintf("You paid %s. %s brings your parcel; its tracking number is %s.", Money(e.Total), e.Carrier, e.TrackingNumber))
}

// Cancelled says that the order will not come, and why.
func Cancelled(e events.OrderCancelled) Notification {
	var why string
	switch e.Reason.Code {
	case events.ReasonCancelledByCustomer:
		why = "as you asked"
	case events.ReasonOutOfStock:
		why = "because we do not have enough in stock"
	case events.ReasonPaymentDeclined:
		why = "because the payment was declined"
	case events.ReasonShippingRefused:
		why = "because we cannot ship it to your address"
	case events.ReasonTimedOut:
		why = "because we could not complete it in time"
	default:
		// The reason's detail is written for operators and stays out.
		why = "because something went wrong on our side"
	}
	return notification(OrderCancelled, e.OrderID, e.CustomerID, e.Version, e.CancelledAt, "Your order is cancelled",
		fmt.Sprintf("Your order of %s was cancelled %s. It costs you nothing.", Money(e.Total), why))
}

// Refunded says that money went back; false when there was none to give back, which is nobody's news.
func Refunded(e events.PaymentRefunded, at time.Time) (Notification, bool) {
	if e.Amount.Amount <= 0 {
		return Notification{}, false
	}
	return notification(OrderRefunded, e.OrderID, e.CustomerID, 0, at, "Your money is on its way back",
		fmt.Sprintf("We gave back the %s that you paid. Your bank may need some days to show it.", Money(e.Amount))), true
}

func pieces(lines []events.PricedLine) string {
	n := 0
	for _, l := range lines {
		n += l.Quantity
	}
	if n == 1 {
		return "1 piece"
	}
	return fmt.Sprintf("%d pieces", n)
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// minorDigits has the currencies whose minor unit is not a hundredth (ISO 4217).
var minorDigits = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0,
	"UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}

// Money writes an amount for people: 2500 EUR as "25.00 EUR", 2500 JPY as "2500 JPY".
func Money(m events.Money) string {
	digits, known := minorDigits[m.Currency]
	if !known {
		digits = 2
	}
	sign, amount := "", m.Amount
	if amount < 0 {
		sign, amount = "-", -amount
	}
	text := fmt.Sprintf("%0*d", digits+1, amount)
	if digits > 0 {
		text = text[:len(text)-digits] + "." + text[len(text)-digits:]
	}
	return strings.TrimSpace(sign + text + " " + m.Currency)
}
