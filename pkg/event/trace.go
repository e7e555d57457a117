package event

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// traceFrom returns the W3C headers of the span in ctx, empty without one.
func traceFrom(ctx context.Context) (traceparent, tracestate string) {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[HeaderTraceparent], carrier[HeaderTracestate]
}

// TraceContext returns ctx with the event's trace context as its remote parent.
func (e Event) TraceContext(ctx context.Context) context.Context {
	if e.Traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		HeaderTraceparent: e.Traceparent, HeaderTracestate: e.Tracestate,
	})
}
