package analytics_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/replay"
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

// TestReplayRebuildsTheFiguresBeside: history read again into an empty database gives the figures that the live service
// has, which does not hear of it.
func TestReplayRebuildsTheFiguresBeside(t *testing.T) {
	t.Parallel()
	const beside = "analytics.replay"
	topics := kafka.Topics(events.TopicsOf("analytics"))
	for _, t := range topics {
		if name, own := strings.CutPrefix(t.Name, "analytics."); own {
			t.Name = beside + "." + name
			topics = append(topics, t)
		}
	}
	s := testkit.Start(t, topics)
	svc := testkit.Run(s, "analytics", analytics.Run)
	eur := events.Money{Amount: 100, Currency: "EUR"}
	at := time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)
	for i := range 30 {
		id := fmt.Sprint("o", i)
		e := s.Send("/test", id, events.OrderCreated{
			OrderID: id, CustomerID: "c", Version: 1, Total: eur, CreatedAt: at,
			Lines:           []events.PricedLine{{SKU: "A", Quantity: 1, UnitPrice: eur}},
			ShippingAddress: events.Address{Name: "n", Street: "s", PostalCode: "1", City: "c", Country: "DE"},
		})
		if i%5 == 0 {
			s.Resend(events.TopicOrderCreated, e) // doubles are part of history
		}
		if i%2 == 0 {
			s.Send("/test", id, events.OrderConfirmed{
				OrderID: id, CustomerID: "c", Version: 2, Total: eur, TrackingNumber: "T", Carrier: "x", ConfirmedAt: at.Add(time.Minute),
			})
		}
	}
	want := analyticsapi.OrderCounts{Total: 30, Pending: 15, Confirmed: 15}
	counted := func(f analyticsapi.Figures) bool { return f.Orders == want }
	live := testkit.Eventually(svc, "/v1/figures", counted)
	handled := func() float64 {
		return svc.Metric(`messaging_process_duration_seconds_count{group="analytics",topic="order.created"}`)
	}
	testkit.Until(s, "the live service has handled everything", func() bool { return handled() == 36 })

	rebuilt := testkit.Run(s, "analytics", analytics.Run, "REPLAY_GROUP="+beside, "DATABASE_URL=sqlite:"+s.Database("rebuilt"))
	cfg := kafka.Config{Brokers: s.Brokers(), ClientID: "test"}
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	var before []kafka.PartitionLag
	testkit.Until(s, "the live group has committed everything", func() bool {
		before = committed(t, admin)
		return !slices.ContainsFunc(before, func(p kafka.PartitionLag) bool { return p.Lag > 0 })
	})
	from, err := replay.ParseBound(replay.Oldest, time.Now())
	require.NoError(t, err)
	for _, topic := range []string{events.TopicOrderConfirmed, events.TopicOrderCreated} {
		plan, err := replay.Prepare(t.Context(), admin, replay.Request{
			ID: topic, Topic: topic, Target: beside, From: from, Inbox: deadletter.ReplaySkip,
		})
		require.NoError(t, err)
		require.NoError(t, plan.Begin(t.Context(), admin, time.Now()))
		_, _, err = replay.Copier{Kafka: cfg, Admin: admin, Logger: slog.New(slog.DiscardHandler)}.Run(t.Context(), plan)
		require.NoError(t, err)
		require.NoError(t, replay.Follow(t.Context(), admin, beside, func(replay.Status) {}))
		letters, err := replay.DeadLetters(t.Context(), cfg, admin, plan)
		require.NoError(t, err)
		require.Zero(t, letters)
	}
	require.Equal(t, live, testkit.Eventually(rebuilt, "/v1/figures", counted))
	var a, b analyticsapi.OrdersPerMinute
	const minutes = "/v1/figures/orders-per-minute?from=2026-01-02T03:00:00Z&to=2026-01-02T03:30:00Z"
	require.Equal(t, http.StatusOK, svc.Get(minutes, &a))
	require.Equal(t, http.StatusOK, rebuilt.Get(minutes, &b))
	require.Equal(t, a, b)

	require.Equal(t, before, committed(t, admin), "the live group's offsets")
	require.EqualValues(t, 36, handled(), "the live service handled nothing more")
	require.Equal(t, live, testkit.Eventually(svc, "/v1/figures", counted))

	// The rebuilt database takes the live one's place; docs/OPERATIONS.md says how. What it has comes again, and is known.
	svc.Stop()
	rebuilt.Stop()
	db, err := database.Open(t.Context(), "sqlite:"+s.Database("rebuilt"))
	require.NoError(t, err)
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE inbox SET consumer = 'analytics' WHERE consumer = 'analytics.replay'`)
		return err
	}))
	require.NoError(t, db.Close())
	s.Resend(events.TopicOrderCreated, s.Messages(events.TopicOrderCreated, events.TypeOrderCreated, "o1")[0])
	svc = testkit.Run(s, "analytics", analytics.Run, "DATABASE_URL=sqlite:"+s.Database("rebuilt"))
	testkit.Until(s, "the double is dropped", func() bool { return svc.Metric(`consumer_duplicates_total{group="analytics"}`) == 1 })
	require.Equal(t, live, testkit.Eventually(svc, "/v1/figures", counted))
}

// committed is where the live group stands.
func committed(t *testing.T, admin *kafka.Admin) []kafka.PartitionLag {
	t.Helper()
	lags, err := admin.Lag(t.Context(), map[string][]string{"analytics": {events.TopicOrderCreated, events.TopicOrderConfirmed, events.TopicOrderCancelled}})
	require.NoError(t, err)
	return lags[0].Partitions
}
