package demo

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

func TestOneSeedOneMix(t *testing.T) {
	t.Parallel()
	first, again := mix(rand.New(rand.NewPCG(7, 1)), 300), mix(rand.New(rand.NewPCG(7, 1)), 300)
	require.Equal(t, first, again)
	require.NotEqual(t, first, mix(rand.New(rand.NewPCG(8, 1)), 300))
	kinds := map[string]int{}
	for _, m := range first {
		kinds[strings.Join(m.failures, ",")]++
	}
	require.Len(t, kinds, 5, "every kind of order is in the mix: %v", kinds)
}

func TestExpects(t *testing.T) {
	t.Parallel()
	require.True(t, mixed{}.expects(""))
	require.False(t, mixed{}.expects("out_of_stock"))
	require.True(t, mixed{failures: []string{"out_of_stock"}}.expects("out_of_stock"))
	require.False(t, mixed{failures: []string{"out_of_stock"}}.expects(""))
	late := mixed{cancel: true, failures: []string{"cancelled_by_customer"}}
	require.True(t, late.expects(""), "a cancel may come too late")
	require.True(t, late.expects("cancelled_by_customer"))
}

func TestSaid(t *testing.T) {
	t.Parallel()
	require.Equal(t, "confirmed, stock shipped, payment charged, parcel arranged", said("confirmed", "", "charged", "shipped", "arranged"))
	require.Equal(t, "cancelled (out of stock), stock rejected", said("cancelled", "out_of_stock", "", "rejected", ""))
	require.Equal(t, "→ charge_payment", words(orderapi.TimelineEntry{Text: "command sent do charge_payment #1"}))
	require.Equal(t, "→ undo charge_payment #2", words(orderapi.TimelineEntry{Text: "command sent undo charge_payment #2"}))
	require.Equal(t, "finished: completed", words(orderapi.TimelineEntry{Text: "finished: completed"}))
}

func TestReportForPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	r := Report{
		Seed: 7, Took: 12.3, Failures: []string{"scenario \"x\": it went wrong"},
		Scenarios: []Scenario{
			{Name: "confirmed", Expected: "confirmed", Happened: "confirmed", OK: true, OrderID: "01a1fe04-67147186", Timeline: []Moment{{0.25, "→ reserve_stock"}}},
			{Name: "x", Expected: "cancelled", Happened: "confirmed", Wrong: []string{"it went wrong"}},
		},
		DeadLetters: []Letter{{Service: "payment", ID: "t-0-1", ErrorType: "transient", Error: "no\nanswer", State: "redriven"}},
		Books:       books.Audit{Findings: []books.Finding{{Name: "stock", OK: true, Says: "1 = 1"}}},
	}
	var out strings.Builder
	r.Print(&out, terminal.For(&out))
	for _, want := range []string{
		"✓ confirmed  (order …67147186", "+0.250 s  → reserve_stock", "✗ x", "it went wrong", "expected: cancelled",
		"transient: no answer", "✓ stock: 1 = 1", "Off after 12.3 s (seed 7):",
	} {
		require.Contains(t, out.String(), want)
	}
	require.NotContains(t, out.String(), "\x1b", "no colours off a terminal")

	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, r, back)

	out.Reset()
	r.OK = true
	r.Print(&out, terminal.For(&out))
	require.Contains(t, out.String(), "Everything is as it should be")
}
