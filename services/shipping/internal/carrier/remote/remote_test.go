package remote_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/carriertest"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/remote"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

func jitter() float64 { return 0.5 }

func TestRemoteKeepsThePromise(t *testing.T) {
	t.Parallel()
	carriertest.Run(t, func(t *testing.T) carriertest.Subject {
		db, err := database.Open(t.Context(), "sqlite:"+t.TempDir()+"/sandbox.db")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "sandbox", sandbox.Migrations()))
		s := sandbox.New(sandbox.Config{Slow: carriertest.Slow, Timeout: time.Minute}, db, time.Now)
		c := remote.New(remote.Config{
			URL: carriertest.Server(t, s).URL, Timeout: time.Second, Attempts: 2, Backoff: time.Millisecond,
		}, jitter)
		t.Cleanup(c.Close)
		return carriertest.Subject{Carrier: c, Count: s.Count, Retries: true}
	})
}

func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
		calls  int32
	}{
		"bad request":          {400, `{"code":"malformed"}`, fault.Permanent, 1},
		"wrong token":          {401, ``, fault.Permanent, 1},
		"redirect":             {302, ``, fault.Permanent, 1},
		"refused without code": {422, `{"error":"?"}`, fault.Permanent, 1},
		"busy key":             {409, `{"code":"in_progress"}`, fault.Transient, 3},
		"too many requests":    {429, ``, fault.Transient, 3},
		"broken":               {500, `<html>`, fault.Transient, 3},
		"no JSON":              {201, `<html>`, fault.Transient, 3},
		"no tracking number":   {201, `{"carrier":"c"}`, fault.Transient, 1},
		"endless":              {201, strings.Repeat(" ", 1<<20), fault.Transient, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if r.Header.Get("Idempotency-Key") != "arrange-1" || r.Header.Get("Authorization") != "Bearer secret" {
					w.WriteHeader(http.StatusTeapot)
					return
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			t.Cleanup(server.Close)
			c := remote.New(remote.Config{URL: server.URL + "/", Token: "secret", Timeout: 5 * time.Second, Attempts: 3, Backoff: time.Millisecond}, jitter)
			t.Cleanup(c.Close)
			_, err := c.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-1"})
			require.Error(t, err)
			require.Equal(t, tc.kind, fault.KindOf(err), "%v", err)
			require.Equal(t, tc.calls, calls.Load(), "%v", err)
			require.NotContains(t, err.Error(), "secret")
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
	c := remote.New(remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1}, jitter)
	t.Cleanup(c.Close)
	_, err := c.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-1"})
	var refused *carrier.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, events.ReasonShippingRefused, refused.Code)
}

func TestCarrierAwayIsTransient(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := remote.New(remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 2, Backoff: time.Millisecond}, jitter)
	_, err := c.Cancel(t.Context(), carrier.CancelRequest{Key: "cancel-1", ArrangeKey: "arrange-1"})
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
}
