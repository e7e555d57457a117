package remote_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/jsoncall"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/provider/providertest"
	"github.com/orderflow/orderflow/services/payment/internal/provider/remote"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

func start(t *testing.T, cfg remote.Config) *remote.Provider {
	t.Helper()
	p, err := remote.New(cfg, jsoncall.Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now, Jitter: func() float64 { return 0.5 },
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func TestRemoteKeepsThePromise(t *testing.T) {
	t.Parallel()
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/sandbox.db")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
		s := sandbox.New(sandbox.Config{Slow: providertest.Slow, Timeout: time.Minute}, db, time.Now, uuid.NewString)
		p := start(t, remote.Config{
			URL: providertest.Server(t, s).URL, Timeout: time.Second, Attempts: 2, Backoff: time.Millisecond,
		})
		return providertest.Subject{Provider: p, Totals: s.Totals, Retries: true}
	})
}

// An answer that is fine as JSON and still says too little.
func TestChargeWithoutAReferenceIsTransient(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(server.Close)
	p := start(t, remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 3, Backoff: time.Millisecond})
	_, err := p.Charge(t.Context(), provider.ChargeRequest{Key: "charge-1", Amount: events.Money{Amount: 1, Currency: "EUR"}, Method: "tok_x"})
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "without a reference")
}

func TestStrangeDeclines(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusPaymentRequired)
		_, _ = w.Write([]byte(`{"code":"Do Not Honour!"}`))
	}))
	t.Cleanup(server.Close)
	p := start(t, remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1})
	_, err := p.Charge(t.Context(), provider.ChargeRequest{Key: "charge-1"})
	var declined *provider.Declined
	require.ErrorAs(t, err, &declined)
	require.Equal(t, "card_declined", declined.Code)
}
