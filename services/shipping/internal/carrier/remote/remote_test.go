package remote_test

import (
	"net/http"
	"net/http/httptest"
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
			c := remote.New(remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1}, jitter)
			t.Cleanup(c.Close)
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
	c := remote.New(remote.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 1}, jitter)
	t.Cleanup(c.Close)
	_, err := c.Arrange(t.Context(), carrier.ArrangeRequest{Key: "arrange-1"})
	var refused *carrier.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, events.ReasonShippingRefused, refused.Code)
}
