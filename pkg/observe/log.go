package observe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// Format is the shape of log lines.
type Format string

// The formats: JSON for machines, Text for people.
const (
	JSON Format = "json"
	Text Format = "text"
)

// UnmarshalText accepts the formats' names and nothing else.
func (f *Format) UnmarshalText(text []byte) error {
	switch v := Format(text); v {
	case JSON, Text:
		*f = v
		return nil
	default:
		return fmt.Errorf("is %q, must be json or text", text)
	}
}

// NewLogger returns a logger that writes lines of level and above to w. Every line has the service's name, the trace
// id and span id of its context, and the attributes that With attached to it.
func NewLogger(w io.Writer, level slog.Leveler, format Format, service string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: maskAttr}
	var h slog.Handler
	if format == Text {
		h = slog.NewTextHandler(w, opts)
	} else {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(contextHandler{h}).With("service", service)
}

// contextHandler adds to each record what its context knows. Under a logger WithGroup those attributes are in the
// group.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	if attached := attrsFrom(ctx); len(attached) > 0 {
		own := map[string]bool{}
		r.Attrs(func(a slog.Attr) bool {
			own[a.Key] = true
			return true
		})
		for _, a := range attached {
			if !own[a.Key] {
				r.AddAttrs(a)
			}
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}

type attrsKey struct{}

func attrsFrom(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return attrs
}

// With returns a context whose log lines carry args, given as to slog.Logger.With: With(ctx, "order_id", id). A name
// that is there already is replaced; a line's own attribute of that name wins.
func With(ctx context.Context, args ...any) context.Context {
	var r slog.Record
	r.Add(args...)
	attrs := slices.Clone(attrsFrom(ctx))
	r.Attrs(func(a slog.Attr) bool {
		attrs = slices.DeleteFunc(attrs, func(old slog.Attr) bool { return old.Key == a.Key })
		attrs = append(attrs, a)
		return true
	})
	return context.WithValue(ctx, attrsKey{}, attrs)
}
