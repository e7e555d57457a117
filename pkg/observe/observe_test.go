package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lines(t *testing.T, b *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	dec := json.NewDecoder(b)
	for dec.More() {
		var line map[string]any
		require.NoError(t, dec.Decode(&line))
		all = append(all, line)
	}
	return all
}

func TestLinesCarryTheirContext(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := observe.NewLogger(&b, slog.LevelInfo, observe.JSON, "order")
	tracer, err := observe.Tracing(t.Context(), observe.TraceConfig{Service: "order"})
	require.NoError(t, err)
	ctx, span := tracer.Tracer("t").Start(t.Context(), "s")
	outer := observe.With(ctx, "order_id", "1", "attempt", 1)
	inner := observe.With(outer, "attempt", 2)
	l.InfoContext(inner, "a")
	l.InfoContext(outer, "b", "order_id", "own")
	l.Info("c")
	l.DebugContext(inner, "too low")
	got := lines(t, &b)
	require.Len(t, got, 3)
	require.Equal(t, "order", got[0]["service"])
	require.Equal(t, "1", got[0]["order_id"])
	require.EqualValues(t, 2, got[0]["attempt"])
	require.Equal(t, span.SpanContext().TraceID().String(), got[0]["trace_id"])
	require.Equal(t, span.SpanContext().SpanID().String(), got[0]["span_id"])
	require.Equal(t, "own", got[1]["order_id"])
	require.EqualValues(t, 1, got[1]["attempt"], "With does not change the context that it came from")
	require.NotContains(t, got[2], "trace_id")
}

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := observe.NewLogger(&b, slog.LevelInfo, observe.Text, "order").With("DATABASE_URL", "postgres://me:hunter2@db/x?sslpassword=hunter2")
	l.Info("start", "password", "hunter2", "payment_token", "hunter2", slog.Group("config", "api_key", "hunter2"),
		"error", errors.New("dial redis://:hunter2@cache:6379: refused"))
	require.NotContains(t, b.String(), "hunter2")
	require.Contains(t, b.String(), "postgres://me:***@db/x")
	for text, want := range map[string]string{
		"postgres://me:p@ss@db/x":         "postgres://me:***@db/x",
		"host=db password=p user=me":      "host=db password=*** user=me",
		"http://host:80/a@b":              "http://host:80/a@b",
		"me@example.org":                  "me@example.org",
		"a redis://:x@h and amqp://a:b@c": "a redis://:***@h and amqp://a:***@c",
	} {
		require.Equal(t, want, observe.Mask(text))
	}
}

func TestWatermillLevels(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := observe.WatermillLogger(observe.NewLogger(&b, slog.LevelDebug, observe.JSON, "order")).With(watermill.LogFields{"topic": "x"})
	l.Info("plumbing", watermill.LogFields{"n": 1})
	l.Debug("more", nil)
	l.Trace("each message", nil)
	l.Error("broken", errors.New("cause"), nil)
	got := lines(t, &b)
	require.Len(t, got, 3)
	require.Equal(t, "DEBUG", got[0]["level"])
	require.Equal(t, "x", got[0]["topic"])
	require.Equal(t, "ERROR", got[2]["level"])
	require.Equal(t, "cause", got[2]["error"])
	b.Reset()
	observe.NewPrintLogger(observe.NewLogger(&b, slog.LevelDebug, observe.JSON, "order"), "sarama").Println("client", "closed")
	require.Equal(t, "client closed", lines(t, &b)[0]["msg"])
}

func TestFormat(t *testing.T) {
	t.Parallel()
	var f observe.Format
	require.NoError(t, f.UnmarshalText([]byte("text")))
	require.ErrorContains(t, f.UnmarshalText([]byte("xml")), "must be json or text")
}

func TestTraceIDsTravelWithoutACollector(t *testing.T) {
	t.Parallel()
	tracer, err := observe.Tracing(t.Context(), observe.TraceConfig{Service: "order"})
	require.NoError(t, err)
	ctx, span := tracer.Tracer("t").Start(t.Context(), "s")
	require.True(t, span.SpanContext().IsValid())
	require.True(t, span.SpanContext().IsSampled())
	carrier := propagation.MapCarrier{}
	observe.Propagator().Inject(ctx, carrier)
	require.Contains(t, carrier["traceparent"], span.SpanContext().TraceID().String())

	_, child := tracer.Tracer("t").Start(ctx, "child")
	require.Equal(t, span.SpanContext().TraceID(), child.SpanContext().TraceID())
	require.NotEqual(t, span.SpanContext().SpanID(), child.SpanContext().SpanID())
	_, root := tracer.Tracer("t").Start(ctx, "root", trace.WithNewRoot())
	require.NotEqual(t, span.SpanContext().TraceID(), root.SpanContext().TraceID())
	unsampled := observe.Propagator().Extract(t.Context(), propagation.MapCarrier{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate": "a=b",
	})
	_, span = tracer.Tracer("t").Start(unsampled, "s")
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.SpanContext().TraceID().String())
	require.False(t, span.SpanContext().IsSampled(), "its caller's decision")
	require.Equal(t, "a=b", span.SpanContext().TraceState().String())
	require.False(t, span.IsRecording())
	require.NoError(t, tracer.Shutdown(t.Context()))
}

func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	paths := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer collector.Close()
	tracer, err := observe.Tracing(t.Context(), observe.TraceConfig{Service: "order", Endpoint: collector.URL + "/otlp/"})
	require.NoError(t, err)
	_, span := tracer.Tracer("t").Start(t.Context(), "s")
	span.End()
	require.NoError(t, tracer.Shutdown(context.WithoutCancel(t.Context())))
	require.Equal(t, "/otlp/v1/traces", <-paths)
	_, err = observe.Tracing(t.Context(), observe.TraceConfig{Endpoint: "http://a b"})
	require.Error(t, err)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	observe.MetricsHandler(observe.NewRegistry("order", "v1")).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	for _, name := range []string{`service_build_info{goversion="go`, "go_goroutines", "process_cpu_seconds_total"} {
		require.True(t, strings.Contains(w.Body.String(), name), name)
	}
}
