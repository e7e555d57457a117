package remote_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/jsoncall"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/carriertest"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/remote"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

func start(t *testing.T, cfg remote.Config) *remote.Carrier {
	t.Helper()
	c, err := remote.New(cfg, jsoncall.Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now, Jitter: func() float64 { return 0.5 },
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestRemoteKeepsThePromise(t *testing.T) {
	t.Parallel()
	carriertest.Run(t, func(t *testing.T) carriertest.Subject {
		db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/sandbox.db")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
		s := sandbox.New(sandbox.Config{Slow: carriertest.Slow, Timeout: time.Minute}, db, time.Now)
		c := start(t, remote.Config{
			URL: carriertest.Server(t, s).URL, Timeout: time.Second, Attempts: 2, Backoff: time.Millisecond,
		})
		return carriertest.Subject{Carrier: c, Count: s.Count, Retries: true}
	})
}

// What belongs to this contract; the other answers are package jsoncall's.
func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
	}{
		"refused without code": {422, `{"error":"?"}`, fault.Permanent},
		"no tracking number":   {201, `{"carrier":"c"}`, fault.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			t.Cleanup(server.Close)
			c := start(t, remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1})
			_, err := c.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-1"})
			require.Error(t, err)
			require.Equal(t, tc.kind, fault.KindOf(err), "%v", err)
		})
	}
}

func TestStrangeRefusals(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"code":"Too Heavy!"}`))
	}))
	t.Cleanup(server.Close)
	c := start(t, remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1})
	_, err := c.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-1"})
	var refused *carrier.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, events.ReasonShippingRefused, refused.Code)
}
