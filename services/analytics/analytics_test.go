package analytics_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/analytics"
)

// TestFigures: events out of order, twice, and with a restart in between; the figures are right in the end.
func TestFigures(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, kafka.Topics(events.TopicsOf("analytics")))
	svc := testkit.Run(s, "analytics", analytics.Run)

	at := time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)
	eur := func(n int64) events.Money { return events.Money{Amount: n, Currency: "EUR"} }
	type sent struct {
		key  string
		body event.Body
	}
	var story []sent
	for i := range 6 {
		id := fmt.Sprint("o", i)
		story = append(story, sent{id, events.OrderCreated{
			OrderID: id, CustomerID: "c", Version: 1, Total: eur(100), CreatedAt: at,
			Lines:           []events.PricedLine{{SKU: "A", Quantity: 1, UnitPrice: eur(100)}},
			ShippingAddress: events.Address{Name: "n", Street: "s", PostalCode: "1", City: "c", Country: "DE"},
		}})
		switch {
		case i < 3:
			story = append(story, sent{id, events.OrderConfirmed{
				OrderID: id, CustomerID: "c", Version: 2, Total: eur(100), TrackingNumber: "T", Carrier: "x", ConfirmedAt: at.Add(time.Minute),
			}})
		case i < 5:
			story = append(story, sent{id, events.OrderCancelled{
				OrderID: id, CustomerID: "c", Version: 3, Total: eur(100), Reason: events.NewReason("out_of_stock", ""), CancelledAt: at,
			}})
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(story), func(i, j int) { story[i], story[j] = story[j], story[i] })
	var all []event.Event
	for _, m := range story[:len(story)/2] {
		all = append(all, s.Send("/test", m.key, m.body))
	}
	svc.Stop()
	svc = testkit.Run(s, "analytics", analytics.Run)
	for _, m := range story[len(story)/2:] {
		all = append(all, s.Send("/test", m.key, m.body))
	}
	for _, e := range all {
		s.Resend(e.Type, e)
	}

	want := analyticsapi.OrderCounts{Total: 6, Pending: 1, Confirmed: 3, Cancelled: 2}
	testkit.Eventually(svc, "/v1/figures", func(f analyticsapi.Figures) bool {
		return f.Orders == want && svc.Metric(`consumer_duplicates_total{group="analytics"}`) >= float64(len(all))
	})
	var f analyticsapi.Figures
	require.Equal(t, http.StatusOK, svc.Get("/v1/figures", &f))
	require.Equal(t, analyticsapi.Figures{Orders: want, Revenue: []analyticsapi.Money{{Amount: 300, Currency: "EUR"}}}, f)

	var totals analyticsapi.CustomerTotals
	require.Equal(t, http.StatusOK, svc.Get("/v1/customers/c/totals", &totals))
	require.Equal(t, analyticsapi.CustomerTotals{
		CustomerID: "c", Orders: want, Spent: []analyticsapi.Money{{Amount: 300, Currency: "EUR"}},
	}, totals)
	require.Equal(t, http.StatusNotFound, svc.Get("/v1/customers/nobody/totals", nil))

	var minutes analyticsapi.OrdersPerMinute
	require.Equal(t, http.StatusOK, svc.Get("/v1/figures/orders-per-minute?from=2026-01-02T03:04:10Z&to=2026-01-02T03:30:00Z", &minutes))
	require.Equal(t, []analyticsapi.Window{
		{Start: at.Truncate(time.Minute), Created: 6, Cancelled: 2},
		{Start: at.Truncate(time.Minute).Add(time.Minute), Confirmed: 3},
	}, minutes.Windows)
	require.Equal(t, http.StatusBadRequest, svc.Get("/v1/figures/orders-per-minute?from=2026-01-02T03:04:10Z&to=2026-01-01T03:30:00Z", nil))
}
