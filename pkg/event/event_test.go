package event_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/pkg/event"
)

// text is any string a header can carry; empty headers are not sent.
func text(t *rapid.T, name string) string { return rapid.StringN(1, 40, 80).Draw(t, name) }

func TestHeadersRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := event.Event{
			ID: text(t, "id"), Type: text(t, "type"), Source: text(t, "source"), Subject: text(t, "subject"),
			Key: text(t, "key"), Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			CorrelationID: text(t, "correlation"), CausationID: text(t, "causation"),
			Traceparent: text(t, "traceparent"), Tracestate: text(t, "tracestate"),
			Data: []byte(text(t, "data")), Extra: map[string]string{"x-" + text(t, "name"): text(t, "value")},
		}
		got, err := event.FromMessage(want.Message())
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestFromHeadersNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := event.FromHeaders(map[string]string{event.HeaderTime: "yesterday", event.HeaderSpecVersion: "0.3"}, nil)
	require.Error(t, err)
	for _, want := range []string{
		"ce_id is missing", "ce_source is missing", "ce_type is missing", "ce_partitionkey is missing",
		`ce_time is "yesterday", must be an RFC 3339 time`, `ce_specversion is "0.3", must be "1.0"`,
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestFactorySetsCauseAndTrace(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	f := event.Factory{Source: "/test", Now: func() time.Time { return at }, NewID: func() string { return "id-1" }}

	first, err := f.New(t.Context(), "thing.made", "k", map[string]int{"n": 1})
	require.NoError(t, err)
	require.Equal(t, event.Event{
		ID: "id-1", Type: "thing.made", Source: "/test", Subject: "k", Key: "k", Time: at.UTC(),
		CorrelationID: "k", Data: []byte(`{"n":1}`),
	}, first)

	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1})
	ctx := trace.ContextWithSpanContext(context.Background(), span)
	ctx = event.WithCause(ctx, event.Cause{ID: "cause", CorrelationID: "story"})
	second, err := f.New(ctx, "thing.made", "k", struct{}{})
	require.NoError(t, err)
	require.Equal(t, "cause", second.CausationID)
	require.Equal(t, "story", second.CorrelationID)
	require.True(t, strings.HasPrefix(second.Traceparent, "00-01"), second.Traceparent)
	require.Equal(t, span.TraceID(), trace.SpanContextFromContext(second.TraceContext(context.Background())).TraceID())

	_, err = f.New(ctx, "thing.made", "k", func() {})
	require.ErrorContains(t, err, "encode thing.made")
}

func FuzzFromHeaders(f *testing.F) {
	f.Add("id", "2026-01-02T03:04:05Z", "1.0", []byte("{}"))
	f.Fuzz(func(t *testing.T, id, at, version string, data []byte) {
		e, err := event.FromHeaders(map[string]string{
			event.HeaderID: id, event.HeaderTime: at, event.HeaderSpecVersion: version,
			event.HeaderSource: "/s", event.HeaderType: "t", event.HeaderKey: "k",
		}, data)
		if err == nil {
			again, err := event.FromHeaders(e.Headers(), data)
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
	})
}
