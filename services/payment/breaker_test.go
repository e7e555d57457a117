package payment_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/payment"
	"github.com/orderflow/orderflow/services/payment/internal/provider/providertest"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

const breakerOpen = `jsoncall_breaker_open{side="payment provider"}`

// ailing is a provider that answers 500, and does nothing, as long as fails says so of a key.
type ailing struct {
	url string
	mu  sync.Mutex
	// fails is asked under mu.
	fails func(key string) bool
	asked int
}

func startAiling(t *testing.T, fails func(key string) bool) *ailing {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/provider.db")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
	healthy := providertest.Server(t, sandbox.New(sandbox.Config{Timeout: time.Minute}, db, time.Now, uuid.NewString)).Config.Handler
	a := &ailing{fails: fails}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked++
		fails := a.fails(r.Header.Get("Idempotency-Key"))
		a.mu.Unlock()
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		healthy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *ailing) askedSoFar() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// A provider is down for longer than all attempts at a command take: commands wait, and go on by themselves.
func TestProviderThatIsDownCostsNoDeadLetter(t *testing.T) {
	t.Parallel()
	down := true
	p := startAiling(t, func(string) bool { return down })
	const attempts, orders = 2, 3
	s, svc := start(t, "PAYMENT_PROVIDER=http", "PAYMENT_PROVIDER_URL="+p.url, "PAYMENT_PROVIDER_ATTEMPTS=1",
		"PAYMENT_PROVIDER_BREAKER_FAILURES=2", "PAYMENT_PROVIDER_BREAKER_COOLDOWN=10ms",
		// The second order's call fails before the first order's attempts are over.
		"CONSUMER_MAX_ATTEMPTS=2", "CONSUMER_BACKOFF_INITIAL=2s", "CONSUMER_BACKOFF_MAX=2s")
	s.Send(source, "order-1", charge("order-1", approved))
	s.Send(source, "order-2", charge("order-2", approved))
	testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
	require.InDelta(t, 1, svc.Metric(breakerOpen), 0)
	s.Send(source, "order-3", charge("order-3", approved))
	testkit.Until(s, "the provider was asked more often than all attempts are", func() bool { return p.askedSoFar() > attempts*orders })
	require.Equal(t, 503, svc.Get("/readyz", nil))
	require.Empty(t, s.Records(events.DeadLetterTopic(payment.Name)))

	p.mu.Lock()
	down = false
	p.mu.Unlock()
	for _, order := range []string{"order-1", "order-2", "order-3"} {
		await[events.PaymentCharged](t, s, order, 1)
	}
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
	require.InDelta(t, 0, svc.Metric(breakerOpen), 0)
	require.Empty(t, s.Records(events.DeadLetterTopic(payment.Name)))
	var totals paymentapi.PaymentTotals
	require.Equal(t, 200, svc.Get("/v1/payments/totals", &totals))
	require.Equal(t, []paymentapi.CurrencyTotals{{Currency: "EUR", Charged: 3 * price.Amount, Charges: 3}}, totals.Currencies)
}

// An order that the provider cannot digest is a dead letter, however often it comes back, and nobody waits for it.
func TestAnOrderThatAlwaysFailsKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	p := startAiling(t, func(key string) bool { return key == "charge-poison" })
	s, svc := start(t, "PAYMENT_PROVIDER=http", "PAYMENT_PROVIDER_URL="+p.url, "PAYMENT_PROVIDER_ATTEMPTS=1",
		"PAYMENT_PROVIDER_BREAKER_FAILURES=2", "PAYMENT_PROVIDER_BREAKER_COOLDOWN=10m")
	s.Send(source, "poison", charge("poison", approved))
	first := letters(svc, 1)[0]
	require.Equal(t, "transient", first.ErrorType)
	response, body := svc.Post("/admin/dead-letters/"+first.ID+"/redrive", map[string]string{"actor": "ada", "reason": "try again"})
	require.Equal(t, 202, response.StatusCode, body)
	testkit.Until(s, "it has failed again", func() bool { return len(s.Records(events.DeadLetterTopic(payment.Name))) == 2 })
	require.Equal(t, 6, p.askedSoFar())
	require.Equal(t, 200, svc.Get("/readyz", nil))
	require.InDelta(t, 0, svc.Metric(breakerOpen), 0)
	s.Send(source, "order-1", charge("order-1", approved))
	await[events.PaymentCharged](t, s, "order-1", 1)
}
