package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/client"
)

func TestFromEnvNamesEverythingThatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := client.FromEnv(func(name string) string {
		return map[string]string{"ORDER_URL": "http://127.0.0.1:8080/", "PAYMENT_URL": "127.0.0.1:8082"}[name]
	})
	for _, name := range []string{"INVENTORY_URL", "PAYMENT_URL", "SHIPPING_URL", "NOTIFICATION_URL", "ANALYTICS_URL", "KAFKA_BROKERS", "REDIS_URL"} {
		require.ErrorContains(t, err, name)
	}
	require.NotContains(t, err.Error(), "ORDER_URL")

	a, err := client.FromEnv(func(name string) string {
		switch name {
		case "KAFKA_BROKERS":
			return "a:1, b:2"
		case "REDIS_URL":
			return "redis://c:3"
		}
		return "http://" + name + "/"
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, a.Brokers)
	require.Equal(t, "http://SHIPPING_URL", a.URLs["shipping"])
}

// one serves one handler as every service.
func one(t *testing.T, h http.HandlerFunc) *client.System {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	urls := map[string]string{}
	for _, service := range client.Services() {
		urls[service] = server.URL
	}
	s, err := client.New(client.Addresses{URLs: urls})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestRefusedSaysWhatTheServiceSaid(t *testing.T) {
	t.Parallel()
	s := one(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprint(w, `{"type":"about:blank","title":"Conflict","status":409,"detail":"the order is confirmed"}`)
	})
	_, err := s.Cancel(t.Context(), "o-1")
	var refused *client.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusConflict, refused.Status)
	require.EqualError(t, err, "cancel order o-1: 409 Conflict: the order is confirmed")
}

func TestMetricSumsTheSeriesThatAreMeant(t *testing.T) {
	t.Parallel()
	s := one(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "# HELP x_total x\nx_total{group=\"a\",type=\"b c\"} 2\nx_total{group=\"b\",type=\"b c\"} 1.5e1\nx_total_more 7\ny 1\n")
	})
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{{"x_total", nil, 17}, {"x_total", []string{`group="a"`}, 2}, {"y", nil, 1}, {"z", nil, 0}} {
		got, err := s.Metric(t.Context(), "order", tc.name, tc.labels...)
		require.NoError(t, err)
		require.InDelta(t, tc.want, got, 0, tc.name)
	}
}

func TestLettersAreReadToTheEnd(t *testing.T) {
	t.Parallel()
	s := one(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		id := "first"
		if r.URL.Query().Get("cursor") == "a+b" {
			id = "second"
		} else {
			w.Header().Set("Link", `</admin/dead-letters?cursor=a%2Bb&limit=1>; rel="next"`)
		}
		_, _ = fmt.Fprintf(w, `{"items":[{"id":%q}]}`, id)
	})
	all, err := s.Letters(t.Context(), "payment", "waiting")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "second", all[1].ID)
	_, err = s.Letters(t.Context(), "nobody", "")
	require.ErrorContains(t, err, `there is no service "nobody"`)
}

func TestNotificationsAreReadPageByPage(t *testing.T) {
	t.Parallel()
	asked := 0
	s := one(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		pages := map[string]string{ // the newest first; an order is told of after it was placed
			"":  `{"items":[{"order_id":"b","at":"2026-01-03T00:00:00Z"},{"order_id":"a","at":"2026-01-02T00:00:00Z"}],"next_cursor":"2"}`,
			"2": `{"items":[{"order_id":"a","at":"2026-01-01T12:00:00Z"},{"order_id":"c","at":"2026-01-01T00:00:00Z"}],"next_cursor":"3"}`,
			"3": `{"items":[{"order_id":"c","at":"2025-12-31T00:00:00Z"}],"next_cursor":"4"}`,
			"4": `{"items":[]}`,
		}
		_, _ = fmt.Fprint(w, pages[r.URL.Query().Get("cursor")])
	})
	all, err := s.AllNotifications(t.Context(), "ada")
	require.NoError(t, err)
	require.Len(t, all, 5)
	require.Equal(t, 4, asked)
	of, err := s.NotificationsOf(t.Context(), "ada", "a", time.Date(2026, 1, 1, 6, 0, 0, 0, time.UTC))
	require.NoError(t, err)
	require.Len(t, of, 2)
	require.Equal(t, 4+3, asked, "the third page is of the time before")
}

func TestFollowReadsEvents(t *testing.T) {
	t.Parallel()
	s := one(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-ID") != "4-0" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprint(w, "retry: 1000\n\nid: 5-0\n\n: still here\n\nid: 6-0\nevent: notification\ndata: {\"a\":\ndata: 1}\n\nid: 7-0\nevent: reset\ndata:x\n\n")
	})
	var positions []string
	var got []client.StreamEvent
	err := s.Follow(t.Context(), "ada", "4-0", func(p string) { positions = append(positions, p) }, func(e client.StreamEvent) error {
		if got = append(got, e); len(got) == 2 {
			return client.ErrStop
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"5-0"}, positions)
	require.Equal(t, []client.StreamEvent{{"6-0", "notification", "{\"a\":\n1}"}, {"7-0", "reset", "x"}}, got)

	var refused *client.Refused
	require.ErrorAs(t, s.Follow(t.Context(), "ada", "x", nil, nil), &refused)
}

func TestEventuallyGivesTheLastObjection(t *testing.T) {
	t.Parallel()
	calls := 0
	require.NoError(t, client.Eventually(t.Context(), func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := client.Eventually(ctx, func(context.Context) error { return errors.New("never") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "never")
}
