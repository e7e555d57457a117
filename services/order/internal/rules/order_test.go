package rules_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

var (
	at        = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	catalogue = map[string]rules.Product{
		"A": {SKU: "A", Name: "a", Price: events.Money{Amount: 100, Currency: "EUR"}},
		"B": {SKU: "B", Name: "b", Price: events.Money{Amount: 250, Currency: "EUR"}},
		"D": {SKU: "D", Name: "d", Price: events.Money{Amount: 1, Currency: "USD"}},
	}
)

func TestPlacePrices(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.IntRange(1, rules.MaxQuantity).Draw(t, "a"), rapid.IntRange(1, rules.MaxQuantity).Draw(t, "b")
		o, err := rules.Place(rules.Request{ID: "o", CustomerID: "c", Items: []rules.Item{{"A", a}, {"B", b}}, At: at}, catalogue)
		require.NoError(t, err)
		require.Equal(t, events.Money{Amount: int64(100*a + 250*b), Currency: "EUR"}, o.Total)
		require.Equal(t, rules.Pending, o.State)
		require.EqualValues(t, 1, o.Version)
		require.Equal(t, at.UTC(), o.CreatedAt)
	})
}

func TestPlaceNamesEveryBadLine(t *testing.T) {
	t.Parallel()
	_, err := rules.Place(rules.Request{Items: []rules.Item{
		{"A", 1}, {"X", 1}, {"B", 0}, {"A", 2}, {"D", 1}, {"B", rules.MaxQuantity + 1},
	}}, catalogue)
	require.Error(t, err)
	var found []rules.LineError
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var line rules.LineError
		require.True(t, errors.As(e, &line))
		line.Allowed = ""
		found = append(found, line)
	}
	require.Equal(t, []rules.LineError{
		{Index: 1, Field: "sku"}, {Index: 2, Field: "quantity"}, {Index: 3, Field: "sku"}, {Index: 4, Field: "sku"}, {Index: 5, Field: "sku"},
	}, found)
	_, err = rules.Place(rules.Request{}, catalogue)
	require.ErrorContains(t, err, "1 to 50 lines")
	_, err = rules.Place(rules.Request{Items: make([]rules.Item, rules.MaxLines+1)}, catalogue)
	require.ErrorContains(t, err, "1 to 50 lines")
}

func TestPlaceRefusesWhatCannotBeAddedUp(t *testing.T) {
	t.Parallel()
	dear := map[string]rules.Product{"A": {SKU: "A", Price: events.Money{Amount: 1 << 60, Currency: "EUR"}}}
	_, err := rules.Place(rules.Request{Items: []rules.Item{{"A", 1000}}}, dear)
	require.Error(t, err)
}

func TestStates(t *testing.T) {
	t.Parallel()
	why, other := events.NewReason("first", ""), events.NewReason("second", "")
	o := rules.Order{State: rules.Pending, Version: 1}
	o.Undo(why, at)
	o.Undo(other, at)
	require.Equal(t, rules.Order{State: rules.Cancelling, Version: 2, Failure: &why, UpdatedAt: at.UTC()}, o, "the first reason stands")
	require.False(t, o.Final())
	o.Cancel(other, at)
	require.Equal(t, rules.Order{State: rules.Cancelled, Version: 3, Failure: &why, UpdatedAt: at.UTC()}, o)
	require.True(t, o.Final())

	o = rules.Order{State: rules.Pending, Version: 1}
	o.Ship("acme", "T1")
	o.Confirm(at)
	require.Equal(t, rules.Order{State: rules.Confirmed, Version: 2, Carrier: "acme", TrackingNumber: "T1", UpdatedAt: at.UTC()}, o)
}
