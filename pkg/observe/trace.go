package observe

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
)

// TraceConfig says who makes spans and where they go.
type TraceConfig struct {
	// Service and Version name the process in every span.
	Service, Version string
	// Endpoint is the OTLP/HTTP collector's base URL, "http://collector:4318"; "/v1/traces" is added, as the OTLP
	// exporter specification says. Empty exports nothing.
	Endpoint string
}

// TracerProvider makes spans. Shutdown sends what is left of them.
type TracerProvider interface {
	trace.TracerProvider
	Shutdown(ctx context.Context) error
}

// Tracing returns a tracer provider. Without an endpoint its spans are nothing but valid ids, which travel in headers and
// stand in logs; nothing is recorded. A collector that is away costs spans, never time.
func Tracing(ctx context.Context, cfg TraceConfig) (TracerProvider, error) {
	if cfg.Endpoint == "" {
		return idProvider{}, nil
	}
	traces, err := url.JoinPath(cfg.Endpoint, "v1", "traces")
	if err != nil {
		return nil, fmt.Errorf("tracing endpoint %q: %w", Mask(cfg.Endpoint), err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(traces))
	if err != nil {
		return nil, fmt.Errorf("tracing exporter: %w", err)
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version),
		)),
		sdktrace.WithBatcher(exporter),
	), nil
}

// idProvider makes spans that are ids alone. The SDK's own would keep all that is said of them, for nobody.
type idProvider struct{ embedded.TracerProvider }

func (idProvider) Tracer(string, ...trace.TracerOption) trace.Tracer { return idTracer{} }

func (idProvider) Shutdown(context.Context) error { return nil }

type idTracer struct{ embedded.Tracer }

// Start implements trace.Tracer: a new span id, in its parent's trace and sampled as that is, or in a new one that is.
func (idTracer) Start(ctx context.Context, _ string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	var parent trace.SpanContext
	if config := trace.NewSpanStartConfig(opts...); !config.NewRoot() {
		parent = trace.SpanContextFromContext(ctx)
	}
	ids := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceFlags: parent.TraceFlags(), TraceState: parent.TraceState()}
	if !parent.TraceID().IsValid() {
		binary.LittleEndian.PutUint64(ids.TraceID[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(ids.TraceID[8:], rand.Uint64()|1) // never zero
		ids.TraceFlags = trace.FlagsSampled
	}
	binary.LittleEndian.PutUint64(ids.SpanID[:], rand.Uint64()|1)
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(ids))
	return ctx, trace.SpanFromContext(ctx)
}

// Propagator is how trace context travels between processes: W3C traceparent and tracestate.
func Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }
