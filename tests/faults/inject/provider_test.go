package inject_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/faults/inject"
)

// shop asks a provider as the services do.
type shop struct {
	t    *testing.T
	url  string
	http *http.Client
}

func provider(t *testing.T) (*inject.Provider, shop) {
	t.Helper()
	p, err := inject.OpenProvider()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	_, url, found := strings.Cut(p.Env()["payment"][1], "=")
	require.True(t, found)
	client := &http.Client{Transport: &http.Transport{}, Timeout: soon}
	t.Cleanup(client.CloseIdleConnections)
	return p, shop{t, url, client}
}

// ask returns the status and the whole answer, 0 where there was none.
func (s shop) ask(path, key, body string, patience time.Duration) (status int, text map[string]any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	request.Header.Set("Idempotency-Key", key)
	response, err := s.http.Do(request)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = response.Body.Close() }()
	if response.ContentLength != 0 && json.NewDecoder(response.Body).Decode(&text) != nil {
		return 0, nil
	}
	return response.StatusCode, text
}

const charge = `{"amount":2500,"currency":"EUR","payment_method":"tok_approved"}`

func TestProviderKeepsItsBooks(t *testing.T) {
	t.Parallel()
	p, s := provider(t)
	for range 2 {
		status, text := s.ask("/charges", "charge-1", charge, soon)
		require.Equal(t, http.StatusCreated, status)
		require.Equal(t, "ch_charge-1", text["reference"])
	}
	require.Equal(t, map[string]int64{"EUR": 2500}, p.Taken())
	status, _ := s.ask("/charges", "charge-1", strings.Replace(charge, "2500", "1", 1), soon)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, text := s.ask("/charges", "charge-2", strings.Replace(charge, "tok_approved", "tok_declined", 1), soon)
	require.Equal(t, http.StatusPaymentRequired, status)
	require.Equal(t, "card_declined", text["code"])
	for range 2 {
		status, text = s.ask("/charges/charge-1/refund", "refund-1", "{}", soon)
		require.Equal(t, http.StatusOK, status)
		require.EqualValues(t, 2500, text["amount"])
	}
	require.Empty(t, p.Taken())
	for _, key := range []string{"charge-2", "charge-3"} {
		status, _ = s.ask("/charges/"+key+"/refund", "refund-"+key, "{}", soon)
		require.Equal(t, http.StatusNoContent, status, key)
	}
	status, _ = s.ask("/charges", "charge-3", charge, soon)
	require.Equal(t, http.StatusConflict, status, "it was called off")

	parcel := `{"address":{"country":"DE"},"lines":[]}`
	status, text = s.ask("/parcels", "arrange-1", parcel, soon)
	require.Equal(t, http.StatusCreated, status)
	require.NotEmpty(t, text["tracking_number"])
	status, _ = s.ask("/parcels", "arrange-2", strings.Replace(parcel, "DE", "AQ", 1), soon)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, _ = s.ask("/parcels/arrange-1/cancel", "cancel-1", "{}", soon)
	require.Equal(t, http.StatusOK, status)
	status, _ = s.ask("/parcels", "", parcel, soon)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, inject.Entry{Key: "arrange-1", Kind: "parcel", Done: true, Undone: true, Asked: 2}, p.Books()["arrange-1"])
}

func TestProviderAnswersInAMannerOnceAKey(t *testing.T) {
	t.Parallel()
	for manner, want := range map[inject.Manner]struct {
		status int
		done   bool
	}{
		inject.Fails: {http.StatusServiceUnavailable, false}, inject.FailsAfter: {http.StatusServiceUnavailable, true},
		inject.Hangs: {0, false}, inject.HangsAfter: {0, true}, inject.Tears: {0, true}, inject.Twice: {http.StatusCreated, true},
	} {
		t.Run(string(manner), func(t *testing.T) {
			t.Parallel()
			p, s := provider(t)
			patience := soon
			if manner == inject.Hangs || manner == inject.HangsAfter {
				patience = short
			}
			mend := p.Begin(manner)
			for _, key := range []string{"a", "b"} {
				status, _ := s.ask("/charges", key, charge, patience)
				require.Equal(t, want.status, status, key)
				require.Equal(t, want.done, p.Books()[key].Done, key)
			}
			status, text := s.ask("/charges", "a", charge, soon)
			require.Equal(t, http.StatusCreated, status, "the second time")
			require.Equal(t, "ch_a", text["reference"])
			mend()
			mend()
			status, text = s.ask("/charges", "c", charge, soon)
			require.Equal(t, http.StatusCreated, status)
			require.Equal(t, "ch_c", text["reference"])
		})
	}
}

func TestProviderStandsByItsLies(t *testing.T) {
	t.Parallel()
	p, s := provider(t)
	mend := p.Begin(inject.Denies)
	declined := strings.Replace(charge, "tok_approved", "tok_declined", 1)
	for range 2 {
		status, text := s.ask("/charges", "denied", charge, soon)
		require.Equal(t, http.StatusPaymentRequired, status)
		require.Equal(t, "card_declined", text["code"])
		status, _ = s.ask("/charges", "declined", declined, soon)
		require.Equal(t, http.StatusPaymentRequired, status)
		status, _ = s.ask("/parcels", "denied parcel", `{"address":{"country":"DE"},"lines":[]}`, soon)
		require.Equal(t, http.StatusUnprocessableEntity, status)
	}
	mend()
	mend = p.Begin(inject.Pretends)
	status, text := s.ask("/charges", "pretended", charge, soon)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "ch_pretended", text["reference"])
	status, _ = s.ask("/charges", "refused", declined, soon)
	require.Equal(t, http.StatusPaymentRequired, status)
	mend()
	status, _ = s.ask("/charges/denied/refund", "refund-denied", "{}", soon)
	require.Equal(t, http.StatusNoContent, status, "nothing was charged, it says")
	status, _ = s.ask("/charges/pretended/refund", "refund-pretended", "{}", soon)
	require.Equal(t, http.StatusOK, status)

	require.Empty(t, p.Taken(), "as it says")
	says := map[bool]string{true: "done", false: "not done"}
	really := map[string]string{}
	for key, e := range p.Books() {
		really[key] = fmt.Sprint(says[e.Done && !e.Undone], ", really ", says[e.Really().Done && !e.Really().Undone], ", ", e.Lie != "")
	}
	require.Equal(t, map[string]string{
		"denied": "not done, really done, true", "denied parcel": "not done, really done, true", "pretended": "not done, really not done, true",
		"declined": "not done, really not done, false", "refused": "not done, really not done, false",
	}, really)
}
