package observe

import (
	"context"
	"fmt"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// TraceConfig says who makes spans and where they go.
type TraceConfig struct {
	// Service and Version name the process in every span.
	Service, Version string
	// Endpoint is the OTLP/HTTP collector's base URL, "http://collector:4318"; "/v1/traces" is added, as the OTLP
	// exporter specification says. Empty exports nothing.
	Endpoint string
}

// Tracing returns a tracer provider; its Shutdown sends what is left. Without an endpoint its spans are sampled and
// have valid ids, which travel in headers and stand in logs, but go nowhere. A collector that is away costs spans,
// never time.
func Tracing(ctx context.Context, cfg TraceConfig) (*sdktrace.TracerProvider, error) {
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version),
		)),
	}
	if cfg.Endpoint != "" {
		traces, err := url.JoinPath(cfg.Endpoint, "v1", "traces")
		if err != nil {
			return nil, fmt.Errorf("tracing endpoint %q: %w", Mask(cfg.Endpoint), err)
		}
		exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(traces))
		if err != nil {
			return nil, fmt.Errorf("tracing exporter: %w", err)
		}
		opts = append(opts, sdktrace.WithBatcher(exporter))
	}
	return sdktrace.NewTracerProvider(opts...), nil
}

// Propagator is how trace context travels between processes: W3C traceparent and tracestate.
func Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }
