// Package carriertest checks what package carrier promises, against any implementation. It is for tests only.
package carriertest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
)

// Slow is the delay of the slow city that Run wants; it ends with the caller's patience.
const Slow = time.Minute

// Subject is an implementation under test, in front of the sandbox's rules and books.
type Subject struct {
	Carrier carrier.Carrier
	// Count sums up the other side's books.
	Count func(ctx context.Context) (sandbox.Counts, error)
	// Retries tells that the implementation asks again by itself, so that a lost answer may not be seen.
	Retries bool
}

func address(city, country string) events.Address {
	return events.Address{Name: "Ada", Street: "Musterstrasse 1", PostalCode: "10115", City: city, Country: country}
}

// Run runs the suite; each test gets a subject of its own, whose timeout must be well below Slow.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	lines := []events.Line{{SKU: "MUG-BLUE", Quantity: 2}}
	arrangeKey := func(ctx context.Context, s Subject, key, city, country string) (carrier.Parcel, error) {
		return s.Carrier.Arrange(ctx, carrier.ArrangeRequest{Key: key, Address: address(city, country), Lines: lines})
	}
	arrange := func(t *testing.T, s Subject, city string) (carrier.Parcel, error) {
		return arrangeKey(t.Context(), s, "arrange-1", city, "DE")
	}
	cancel := func(t *testing.T, s Subject) carrier.Cancellation {
		c, err := s.Carrier.Cancel(t.Context(), carrier.CancelRequest{Key: "cancel-1", ArrangeKey: "arrange-1"})
		require.NoError(t, err)
		return c
	}
	books := func(t *testing.T, s Subject, want sandbox.Counts) {
		t.Helper()
		got, err := s.Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	test := func(name string, f func(t *testing.T, s Subject)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, subject(t))
		})
	}

	test("a parcel is arranged once a key", func(t *testing.T, s Subject) {
		first, err := arrange(t, s, "Berlin")
		require.NoError(t, err)
		require.NotEmpty(t, first.Carrier)
		require.NotEmpty(t, first.TrackingNumber)
		again, err := arrange(t, s, "Berlin")
		require.NoError(t, err)
		require.Equal(t, first, again)
		other, err := arrangeKey(t.Context(), s, "arrange-2", "Berlin", "DE")
		require.NoError(t, err)
		require.NotEqual(t, first.TrackingNumber, other.TrackingNumber)
		books(t, s, sandbox.Counts{Arranged: 2})
	})
	test("also when asked many times at once", func(t *testing.T, s Subject) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { _, _ = arrange(t, s, "Berlin") })
		}
		wg.Wait()
		books(t, s, sandbox.Counts{Arranged: 1})
	})
	test("a key for another parcel is refused for good", func(t *testing.T, s Subject) {
		_, err := arrange(t, s, "Berlin")
		require.NoError(t, err)
		_, err = arrange(t, s, "Hamburg")
		require.Error(t, err)
		require.Equal(t, fault.Permanent, fault.KindOf(err))
		books(t, s, sandbox.Counts{Arranged: 1})
	})
	for _, country := range []string{sandbox.CountryAntarctica, sandbox.CountryNorthKorea} {
		test("a refusal stays one: "+country, func(t *testing.T, s Subject) {
			for range 2 {
				_, err := arrangeKey(t.Context(), s, "arrange-1", "Base", country)
				var refused *carrier.Refused
				require.ErrorAs(t, err, &refused)
				require.Equal(t, carrier.RegionNotServed, refused.Code)
				require.NotEmpty(t, refused.Detail)
			}
			require.False(t, cancel(t, s).Found)
			books(t, s, sandbox.Counts{})
		})
	}
	test("a lost answer is had by asking again", func(t *testing.T, s Subject) {
		got, err := arrange(t, s, sandbox.CityLost)
		if !s.Retries {
			require.Equal(t, fault.Transient, fault.KindOf(err))
			books(t, s, sandbox.Counts{Arranged: 1})
			got, err = arrange(t, s, sandbox.CityLost)
		}
		require.NoError(t, err)
		require.NotEmpty(t, got.TrackingNumber)
		books(t, s, sandbox.Counts{Arranged: 1})
	})
	test("what fails twice works the third time", func(t *testing.T, s Subject) {
		var err error
		for range 3 {
			if _, err = arrange(t, s, sandbox.CityFlaky); err == nil {
				break
			}
			require.Equal(t, fault.Transient, fault.KindOf(err))
		}
		require.NoError(t, err)
		books(t, s, sandbox.Counts{Arranged: 1})
	})
	for _, city := range []string{sandbox.CityFailing, sandbox.CitySlow} {
		test("no answer is transient: "+city, func(t *testing.T, s Subject) {
			_, err := arrange(t, s, city)
			require.Error(t, err)
			require.Equal(t, fault.Transient, fault.KindOf(err))
			require.False(t, cancel(t, s).Found)
		})
	}
	test("our own stop is not the carrier's fault", func(t *testing.T, s Subject) {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_, err := arrangeKey(ctx, s, "arrange-1", sandbox.CitySlow, "DE")
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	})
	test("a cancellation calls back what was arranged, once", func(t *testing.T, s Subject) {
		parcel, err := arrange(t, s, "Berlin")
		require.NoError(t, err)
		first := cancel(t, s)
		require.Equal(t, carrier.Cancellation{Found: true, Carrier: parcel.Carrier, TrackingNumber: parcel.TrackingNumber}, first)
		require.Equal(t, first, cancel(t, s))
		_, err = arrange(t, s, "Berlin")
		require.ErrorIs(t, err, carrier.ErrCalledOff)
		books(t, s, sandbox.Counts{Cancelled: 1})
	})
	test("a cancellation of nothing calls the parcel off", func(t *testing.T, s Subject) {
		require.Equal(t, carrier.Cancellation{}, cancel(t, s))
		require.Equal(t, carrier.Cancellation{}, cancel(t, s))
		_, err := arrange(t, s, "Berlin")
		require.ErrorIs(t, err, carrier.ErrCalledOff)
		books(t, s, sandbox.Counts{})
	})
}

// Server serves a carrier under the contract of package remote. Its caller's patience is what bounds a call.
func Server(t *testing.T, c carrier.Carrier) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /parcels", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Address events.Address `json:"address"`
			Lines   []events.Line  `json:"lines"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			answer(w, http.StatusBadRequest, map[string]any{"code": "malformed"})
			return
		}
		parcel, err := c.Arrange(r.Context(), carrier.ArrangeRequest{Key: r.Header.Get("Idempotency-Key"), Address: body.Address, Lines: body.Lines})
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusCreated, map[string]any{"carrier": parcel.Carrier, "tracking_number": parcel.TrackingNumber})
	})
	mux.HandleFunc("POST /parcels/{key}/cancel", func(w http.ResponseWriter, r *http.Request) {
		was, err := c.Cancel(r.Context(), carrier.CancelRequest{Key: r.Header.Get("Idempotency-Key"), ArrangeKey: r.PathValue("key")})
		switch {
		case err != nil:
			refuse(w, err)
		case !was.Found:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, http.StatusOK, map[string]any{"carrier": was.Carrier, "tracking_number": was.TrackingNumber})
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func refuse(w http.ResponseWriter, err error) {
	var refused *carrier.Refused
	switch {
	case errors.As(err, &refused):
		answer(w, http.StatusUnprocessableEntity, map[string]any{"code": refused.Code, "detail": refused.Detail})
	case errors.Is(err, carrier.ErrCalledOff):
		answer(w, http.StatusConflict, map[string]any{"code": "called_off"})
	case fault.KindOf(err) == fault.Permanent:
		answer(w, http.StatusBadRequest, map[string]any{"code": "key_reused"})
	default:
		w.WriteHeader(http.StatusBadGateway)
	}
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
