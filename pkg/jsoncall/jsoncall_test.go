package jsoncall_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/jsoncall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deps are those of a caller that nobody watches.
func deps() jsoncall.Deps {
	return jsoncall.Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now, Jitter: func() float64 { return 0.5 },
	}
}

// caller returns a caller of the shop.
func caller(t *testing.T, cfg jsoncall.Config, deps jsoncall.Deps) *jsoncall.Caller {
	t.Helper()
	c, err := jsoncall.New("shop", cfg, deps, sold)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// sold is the decision of the contract in these tests.
func sold(r *jsoncall.Refusal) bool { return r.Code == "sold" }

// start returns a caller of a server that answers with handler, with three attempts.
func start(t *testing.T, handler http.HandlerFunc) *jsoncall.Caller {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return caller(t, jsoncall.Config{
		URL: server.URL + "/", Token: "secret", Timeout: 5 * time.Second, Attempts: 3, Backoff: time.Millisecond,
	}, deps())
}

type answer struct {
	N int `json:"n"`
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/things" || string(body) != `{"n":1}` ||
			r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Idempotency-Key") != "key-1" ||
			r.Header.Get("Authorization") != "Bearer secret" || !strings.Contains(r.Header.Get("Traceparent"), "0102") {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"n":2,"more":true}`))
	})
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled,
	}))
	var got answer
	status, err := c.Post(ctx, "/things", "key-1", answer{N: 1}, &got)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, answer{N: 2}, got)
}

// A side that answers a request two times over: what is left of the first answer must not be taken for the second's.
func TestAnswerIsOfItsOwnRequest(t *testing.T) {
	t.Parallel()
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		body, _ := json.Marshal(answer{N: len(r.Header.Get("Idempotency-Key"))})
		text := fmt.Sprintf("HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		_, _ = io.WriteString(conn, text)
		// The second comes when the next request does, if that is on this connection.
		if _, err := buffered.ReadByte(); err == nil {
			_, _ = io.WriteString(conn, text)
		}
	})
	for _, key := range []string{"a", "bb", "ccc"} {
		var got answer
		_, err := c.Post(t.Context(), "/things", key, answer{}, &got)
		require.NoError(t, err)
		require.Len(t, key, got.N)
	}
}

func TestNoContentIsAnAnswer(t *testing.T) {
	t.Parallel()
	c := start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	got := answer{N: 7}
	status, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &got)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, answer{N: 7}, got)
}

func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   fault.Kind
		calls  int32
	}{
		"bad request":       {400, `{"code":"malformed","detail":"Ada"}`, fault.Permanent, 1},
		"wrong token":       {401, ``, fault.Permanent, 1},
		"redirect":          {302, ``, fault.Permanent, 1},
		"another no":        {422, `{"code":"not_ours"}`, fault.Permanent, 1},
		"timeout":           {408, ``, fault.Transient, 3},
		"busy key":          {409, `{"code":"in_progress"}`, fault.Transient, 3},
		"too early":         {425, ``, fault.Transient, 3},
		"too many requests": {429, ``, fault.Transient, 3},
		"broken":            {500, `<html>`, fault.Transient, 3},
		"no JSON":           {201, `<html>`, fault.Transient, 3},
		"endless":           {201, strings.Repeat(" ", 1<<20), fault.Transient, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c := start(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if r.Header.Get("Idempotency-Key") != "key-1" {
					w.WriteHeader(http.StatusTeapot)
					return
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			_, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &answer{})
			require.Error(t, err)
			require.Equal(t, tc.kind, fault.KindOf(err), "%v", err)
			require.Equal(t, tc.calls, calls.Load(), "%v", err)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "Ada")
		})
	}
}

// A decision is final, whatever its status: it is asked for once.
func TestDecisionIsFinal(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusPaymentRequired, http.StatusConflict, http.StatusUnprocessableEntity} {
		var calls atomic.Int32
		c := start(t, func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"code":"sold","detail":"to Ada"}`))
		})
		_, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &answer{})
		var no *jsoncall.Refusal
		require.ErrorAs(t, err, &no)
		require.Equal(t, status, no.Status)
		require.Equal(t, "sold", no.Code)
		require.Equal(t, "to Ada", no.Detail)
		require.NotContains(t, err.Error(), "Ada")
		require.Equal(t, int32(1), calls.Load())
	}
}

// One attempt is lost, the next is answered.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := start(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(`{"n":2}`))
	})
	var got answer
	_, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &got)
	require.NoError(t, err)
	require.Equal(t, answer{N: 2}, got)
}

// A side that nobody can be connected to has seen nothing of what was asked: that is not to blame.
func TestNoConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := caller(t, jsoncall.Config{URL: server.URL, Timeout: 5 * time.Second, Attempts: 2, Backoff: time.Millisecond}, deps())
	_, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &answer{})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}

// A silent other side costs the timeout; our own stop ends the call at once and blames nobody.
func TestSilence(t *testing.T) {
	t.Parallel()
	asked, leave := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-leave
	}))
	t.Cleanup(func() { close(leave); server.Close() })
	config := jsoncall.Config{URL: server.URL, Timeout: 20 * time.Millisecond, Attempts: 2, Backoff: time.Millisecond}
	c := caller(t, config, deps())
	_, err := c.Post(t.Context(), "/things", "key-1", struct{}{}, &answer{})
	require.Equal(t, fault.Transient, fault.KindOf(err), "%v", err)
	require.Len(t, asked, 2)

	config.Timeout = time.Hour
	c = caller(t, config, deps())
	ctx, cancel := context.WithCancel(t.Context())
	<-asked
	<-asked
	go func() { <-asked; cancel() }()
	_, err = c.Post(ctx, "/things", "key-2", struct{}{}, &answer{})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}
