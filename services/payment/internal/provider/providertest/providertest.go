// Package providertest checks what package provider promises, against any implementation. It is for tests only.
package providertest

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
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

// Subject is an implementation under test, in front of the sandbox's rules and books.
type Subject struct {
	Provider provider.Provider
	// Totals are the books of the other side.
	Totals func(ctx context.Context) ([]rules.Totals, error)
	// Retries tells that the implementation asks again by itself, so that a lost answer may not be seen.
	Retries bool
}

var price = events.Money{Amount: 2500, Currency: "EUR"}

// Run runs the suite; each test gets a subject of its own. Its timeout must be well below the slow token's delay of
// one minute.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	charge := func(t *testing.T, s Subject, method string) (provider.Charge, error) {
		return s.Provider.Charge(t.Context(), provider.ChargeRequest{Key: "charge-1", Amount: price, Method: method})
	}
	refund := func(t *testing.T, s Subject) provider.Refund {
		r, err := s.Provider.Refund(t.Context(), provider.RefundRequest{Key: "refund-1", ChargeKey: "charge-1"})
		require.NoError(t, err)
		return r
	}
	books := func(t *testing.T, s Subject, want rules.Totals) {
		t.Helper()
		got, err := s.Totals(t.Context())
		require.NoError(t, err)
		want.Currency = "EUR"
		require.Equal(t, []rules.Totals{want}, got)
	}
	test := func(name string, f func(t *testing.T, s Subject)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, subject(t))
		})
	}

	test("a charge is made once a key", func(t *testing.T, s Subject) {
		first, err := charge(t, s, sandbox.TokenApproved)
		require.NoError(t, err)
		require.NotEmpty(t, first.Reference)
		again, err := charge(t, s, sandbox.TokenApproved)
		require.NoError(t, err)
		require.Equal(t, first, again)
		books(t, s, rules.Totals{Charged: 2500, Charges: 1})
	})
	test("also when asked many times at once", func(t *testing.T, s Subject) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { _, _ = charge(t, s, sandbox.TokenApproved) })
		}
		wg.Wait()
		books(t, s, rules.Totals{Charged: 2500, Charges: 1})
	})
	test("a key for another charge is refused for good", func(t *testing.T, s Subject) {
		_, err := charge(t, s, sandbox.TokenApproved)
		require.NoError(t, err)
		_, err = s.Provider.Charge(t.Context(), provider.ChargeRequest{
			Key: "charge-1", Amount: events.Money{Amount: 1, Currency: "EUR"}, Method: sandbox.TokenApproved,
		})
		require.Error(t, err)
		require.Equal(t, fault.Permanent, fault.KindOf(err))
		books(t, s, rules.Totals{Charged: 2500, Charges: 1})
	})
	for method, code := range map[string]string{
		sandbox.TokenDeclined: "card_declined", sandbox.TokenInsufficientFunds: "insufficient_funds",
		"tok_of_nobody": provider.InvalidMethod,
	} {
		test("a decline stays one: "+method, func(t *testing.T, s Subject) {
			for range 2 {
				_, err := charge(t, s, method)
				var declined *provider.Declined
				require.ErrorAs(t, err, &declined)
				require.Equal(t, code, declined.Code)
				require.NotEmpty(t, declined.Detail)
			}
			require.False(t, refund(t, s).Found)
			books(t, s, rules.Totals{Declines: 1})
		})
	}
	test("a lost answer is had by asking again", func(t *testing.T, s Subject) {
		got, err := charge(t, s, sandbox.TokenAmbiguous)
		if !s.Retries {
			require.Equal(t, fault.Transient, fault.KindOf(err))
			books(t, s, rules.Totals{Charged: 2500, Charges: 1})
			got, err = charge(t, s, sandbox.TokenAmbiguous)
		}
		require.NoError(t, err)
		require.NotEmpty(t, got.Reference)
		books(t, s, rules.Totals{Charged: 2500, Charges: 1})
	})
	test("what fails twice works the third time", func(t *testing.T, s Subject) {
		var err error
		for range 3 {
			if _, err = charge(t, s, sandbox.TokenFailTwice); err == nil {
				break
			}
			require.Equal(t, fault.Transient, fault.KindOf(err))
		}
		require.NoError(t, err)
		books(t, s, rules.Totals{Charged: 2500, Charges: 1})
	})
	for _, method := range []string{sandbox.TokenTimeout, sandbox.TokenSlow} {
		test("no answer in time is transient: "+method, func(t *testing.T, s Subject) {
			_, err := charge(t, s, method)
			require.Error(t, err)
			require.Equal(t, fault.Transient, fault.KindOf(err))
			require.False(t, refund(t, s).Found)
		})
	}
	test("our own stop is not the provider's fault", func(t *testing.T, s Subject) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Provider.Charge(ctx, provider.ChargeRequest{Key: "charge-1", Amount: price, Method: sandbox.TokenTimeout})
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	})
	test("a refund gives back all, once", func(t *testing.T, s Subject) {
		_, err := charge(t, s, sandbox.TokenApproved)
		require.NoError(t, err)
		first := refund(t, s)
		require.True(t, first.Found)
		require.Equal(t, price, first.Amount)
		require.NotEmpty(t, first.Reference)
		require.Equal(t, first, refund(t, s))
		_, err = charge(t, s, sandbox.TokenApproved)
		require.ErrorIs(t, err, provider.ErrCalledOff)
		books(t, s, rules.Totals{Charged: 2500, Charges: 1, Refunded: 2500, Refunds: 1})
	})
	test("a refund of nothing calls the charge off", func(t *testing.T, s Subject) {
		require.Equal(t, provider.Refund{}, refund(t, s))
		require.Equal(t, provider.Refund{}, refund(t, s))
		_, err := charge(t, s, sandbox.TokenApproved)
		require.ErrorIs(t, err, provider.ErrCalledOff)
		got, err := s.Totals(t.Context())
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

// Server serves a provider under the contract of package remote. Its caller's patience is what bounds a call.
func Server(t *testing.T, p provider.Provider) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charges", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			events.Money
			Method string `json:"payment_method"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			answer(w, http.StatusBadRequest, map[string]any{"code": "malformed"})
			return
		}
		charge, err := p.Charge(r.Context(), provider.ChargeRequest{Key: r.Header.Get("Idempotency-Key"), Amount: body.Money, Method: body.Method})
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusCreated, map[string]any{"reference": charge.Reference})
	})
	mux.HandleFunc("POST /charges/{key}/refund", func(w http.ResponseWriter, r *http.Request) {
		refund, err := p.Refund(r.Context(), provider.RefundRequest{Key: r.Header.Get("Idempotency-Key"), ChargeKey: r.PathValue("key")})
		switch {
		case err != nil:
			refuse(w, err)
		case !refund.Found:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, http.StatusOK, map[string]any{"amount": refund.Amount.Amount, "currency": refund.Amount.Currency, "reference": refund.Reference})
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func refuse(w http.ResponseWriter, err error) {
	var declined *provider.Declined
	switch {
	case errors.As(err, &declined):
		answer(w, http.StatusPaymentRequired, map[string]any{"code": declined.Code, "detail": declined.Detail})
	case errors.Is(err, provider.ErrCalledOff):
		answer(w, http.StatusConflict, map[string]any{"code": "called_off"})
	case fault.KindOf(err) == fault.Permanent:
		answer(w, http.StatusUnprocessableEntity, map[string]any{"code": "key_reused"})
	default:
		w.WriteHeader(http.StatusBadGateway)
	}
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Slow is the delay of the slow token that Run wants; it ends with the caller's patience.
const Slow = time.Minute
