package rules_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
)

var (
	at    = time.Date(2026, 11, 21, 10, 15, 30, 123_456_789, time.FixedZone("CET", 3600))
	total = events.Money{Amount: 2500, Currency: "EUR"}
)

func TestWords(t *testing.T) {
	t.Parallel()
	placed := rules.Placed(events.OrderCreated{
		OrderID: "o-1", CustomerID: "c-1", Version: 1, Total: total, CreatedAt: at,
		Lines: events.List[events.PricedLine]{{SKU: "MUG", Quantity: 2}},
	})
	require.Equal(t, rules.Notification{
		ID: "o-1-order_placed", CustomerID: "c-1", OrderID: "o-1", OrderVersion: 1, Kind: "order_placed",
		At:    time.Date(2026, 11, 21, 9, 15, 30, 123_456_000, time.UTC), // PostgreSQL keeps no more
		Title: "We have your order", Text: "Your order of 25.00 EUR (2 pieces) has arrived, and we are working on it.",
	}, placed)

	confirmed := rules.Confirmed(events.OrderConfirmed{OrderID: "o-1", Version: 2, Total: total, Carrier: "Sandbox Post", TrackingNumber: "T-9"})
	require.Equal(t, "You paid 25.00 EUR. Sandbox Post brings your parcel; its tracking number is T-9.", confirmed.Text)

	for code, want := range map[string]string{
		events.ReasonCancelledByCustomer: "as you asked",
		events.ReasonOutOfStock:          "not have enough in stock",
		events.ReasonPaymentDeclined:     "payment was declined",
		events.ReasonShippingRefused:     "cannot ship it",
		events.ReasonTimedOut:            "in time",
		"of another year":                "on our side",
	} {
		n := rules.Cancelled(events.OrderCancelled{OrderID: "o-1", Total: total, Reason: events.Reason{Code: code, Detail: "row 17 of shard 3"}})
		require.Contains(t, n.Text, want)
		require.NotContains(t, n.Text, "shard")
	}
}

func TestRefundOfNothingIsNoNews(t *testing.T) {
	t.Parallel()
	_, ok := rules.Refunded(events.PaymentRefunded{OrderID: "o-1", Amount: events.Money{Currency: "EUR"}}, at)
	require.False(t, ok)
	n, ok := rules.Refunded(events.PaymentRefunded{OrderID: "o-1", Amount: total}, at)
	require.True(t, ok)
	require.Equal(t, "o-1-order_refunded", n.ID)
	require.Contains(t, n.Text, "25.00 EUR")
}

func TestWordsAreBounded(t *testing.T) {
	t.Parallel()
	n := rules.Confirmed(events.OrderConfirmed{OrderID: "o-1", Total: total, Carrier: strings.Repeat("é", 5000)})
	require.Equal(t, 2000, len([]rune(n.Text)))
}

func TestMoney(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]events.Money{
		"25.00 EUR":             {Amount: 2500, Currency: "EUR"},
		"0.05 USD":              {Amount: 5, Currency: "USD"},
		"2500 JPY":              {Amount: 2500, Currency: "JPY"},
		"2.500 KWD":             {Amount: 2500, Currency: "KWD"},
		"-0.01 EUR":             {Amount: -1, Currency: "EUR"},
		"90071992547409.91 EUR": {Amount: 1<<53 - 1, Currency: "EUR"},
	} {
		require.Equal(t, want, rules.Money(m))
	}
}
