package rules_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
)

func TestReserve(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stock := map[string]rules.Stock{"A": {SKU: "A", Available: 3}, "B": {SKU: "B", Available: 1}}

	got := rules.Reserve("o", []events.Line{{SKU: "B", Quantity: 1}, {SKU: "A", Quantity: 1}, {SKU: "A", Quantity: 2}}, stock, at)
	require.Equal(t, rules.Reservation{
		OrderID: "o", State: rules.Reserved, CreatedAt: at, UpdatedAt: at,
		Lines: []events.Line{{SKU: "A", Quantity: 3}, {SKU: "B", Quantity: 1}},
	}, got, "lines of one SKU add up")

	got = rules.Reserve("o", []events.Line{{SKU: "A", Quantity: 2}, {SKU: "A", Quantity: 2}, {SKU: "X", Quantity: 1}}, stock, at)
	require.Equal(t, rules.Reservation{
		OrderID: "o", State: rules.Rejected, CreatedAt: at, UpdatedAt: at, Shortages: []events.Shortage{
			{SKU: "A", Requested: 4, Available: 3}, {SKU: "X", Requested: 1, Available: 0},
		},
	}, got, "every shortage is named and nothing is reserved")
}
