package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"log/slog"

	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
)

func logger(w io.Writer) *slog.Logger {
	return observe.NewLogger(w, slog.LevelDebug, observe.JSON, "test")
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func TestStreamFormat(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	s, err := httpapi.NewStream(w, httpapi.StreamOptions{Retry: time.Second})
	require.NoError(t, err)
	require.NoError(t, s.Send(httpapi.StreamEvent{ID: "1-0", Name: "reset", Data: []byte("a\r\nid: forged\rb")}))
	require.NoError(t, s.Heartbeat())
	require.Error(t, s.Send(httpapi.StreamEvent{ID: "1\n2"}))
	require.Error(t, s.Send(httpapi.StreamEvent{Name: "1\n2"}))
	require.Equal(t, "retry: 1000\n\nid: 1-0\nevent: reset\ndata: a\ndata: id: forged\ndata: b\n\n:\n\n", w.Body.String())
	require.Equal(t, "text/event-stream", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store, no-transform", w.Header().Get("Cache-Control"))
	require.True(t, w.Flushed)
}

// serve runs handler in a Server on a free port.
func serve(t *testing.T, handler http.HandlerFunc) (addr string, server *httpapi.Server, done chan error) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a := newAPI(t, document)
	r, err := httpapi.NewRouter(httpapi.Deps{Logger: logger(a.logs), Registry: newRegistry()})
	require.NoError(t, err)
	r.Get("/", handler)
	server, done = httpapi.NewServer(r, logger(a.logs)), make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Shutdown(context.WithoutCancel(t.Context())) })
	return l.Addr().String(), server, done
}

func TestStreamEndsWhenTheServerDoes(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	addr, server, done := serve(t, func(w http.ResponseWriter, r *http.Request) {
		s, err := httpapi.NewStream(w, httpapi.StreamOptions{Heartbeat: 5 * time.Millisecond})
		if err == nil {
			err = s.Serve(r.Context(), make(chan httpapi.StreamEvent))
		}
		ended <- err
	})
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && lines.Text() != ":" { // the first heartbeat
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
	require.NoError(t, <-done)
	require.NoError(t, <-ended)
	_, err = io.ReadAll(res.Body)
	require.NoError(t, err, "the stream ended as a whole answer")
}

func TestSlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	addr, _, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		s, err := httpapi.NewStream(w, httpapi.StreamOptions{WriteTimeout: 50 * time.Millisecond})
		for err == nil {
			err = s.Send(httpapi.StreamEvent{Data: []byte(strings.Repeat("x", 1<<20))})
		}
		ended <- err
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // and never reads
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.ErrorIs(t, err, httpapi.ErrSlowClient)
	case <-time.After(10 * time.Second):
		require.Fail(t, "a client that does not read holds the stream for ever")
	}
}

func TestShutdownCutsOffAtTheDeadline(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	addr, server, _ := serve(t, func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-leave
	})
	answer := make(chan error, 1)
	go func() {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr)
		if err == nil {
			_ = res.Body.Close()
		}
		answer <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, server.Shutdown(ctx), "cut off")
	require.Error(t, <-answer)
	close(leave)
}

func TestLastEventID(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "/?last_event_id=1-0", nil)
	id, err := httpapi.LastEventID(r)
	require.NoError(t, err)
	require.Equal(t, "1-0", id)
	r.Header.Set("Last-Event-ID", "2-0")
	id, err = httpapi.LastEventID(r)
	require.NoError(t, err)
	require.Equal(t, "2-0", id)
	r.Header.Set("Last-Event-ID", "2-0 x")
	_, err = httpapi.LastEventID(r)
	var p *httpapi.Problem
	require.True(t, errors.As(err, &p))
	require.Equal(t, 400, p.Status)
}
