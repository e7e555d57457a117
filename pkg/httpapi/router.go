package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/observe"
)

// Deps is what a router works with.
type Deps struct {
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// Tracer makes the server spans; nil means OpenTelemetry's own global provider.
	Tracer trace.TracerProvider
	// Identify says who calls; its error is the answer. Nil trusts everybody.
	Identify func(*http.Request) (Caller, error)
	// NewID makes the id of a request that brought none; nil means UUIDv7.
	NewID func() string
	// MaxInFlight bounds the requests at work, event streams included; the next one gets a 503. Zero means 2000.
	MaxInFlight int
}

// NewRouter returns a chi router whose requests have an id (X-Request-Id, taken over when it is sane), a server span
// that continues the caller's trace, a cause for the events that they lead to, a caller, a metric, a log line, and
// problems instead of panics, of 404 and of 405. It registers its metrics, so make one a registry.
func NewRouter(d Deps) (chi.Router, error) {
	if d.Tracer == nil {
		d.Tracer = otel.GetTracerProvider()
	}
	if d.Identify == nil {
		d.Identify = func(*http.Request) (Caller, error) { return Trusted, nil }
	}
	if d.NewID == nil {
		d.NewID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	if d.MaxInFlight == 0 {
		d.MaxInFlight = 2000
	}
	a := &around{deps: d, slots: make(chan struct{}, d.MaxInFlight), tracer: d.Tracer.Tracer("github.com/orderflow/orderflow/pkg/httpapi")}
	a.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_server_request_duration_seconds", Help: "Time to answer a request, event streams left out.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "route", "status"})
	a.active = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "http_server_active_requests", Help: "Requests at work, event streams included.",
	})
	for _, c := range []prometheus.Collector{a.duration, a.active} {
		if err := d.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("http metrics: %w", err)
		}
	}
	r := chi.NewRouter()
	r.Use(a.exchange, a.recover, a.admit)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed)
	return r, nil
}

// exchange is what is known of the request at hand, for those who answer it.
type exchange struct {
	requestID string
	url       *url.URL
	// err is why the answer is a problem.
	err error
}

type exchangeKey struct{}

func exchangeFrom(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// RequestID returns the id of the request in ctx, empty outside a router of NewRouter.
func RequestID(ctx context.Context) string {
	if x := exchangeFrom(ctx); x != nil {
		return x.requestID
	}
	return ""
}

type around struct {
	deps     Deps
	tracer   trace.Tracer
	slots    chan struct{}
	duration *prometheus.HistogramVec
	active   prometheus.Gauge
}

var saneID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

func (a *around) exchange(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		x := &exchange{requestID: r.Header.Get("X-Request-Id"), url: r.URL}
		if !saneID.MatchString(x.requestID) {
			x.requestID = a.deps.NewID()
		}
		ctx := observe.Propagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := a.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		ctx = context.WithValue(ctx, exchangeKey{}, x)
		ctx = event.WithCause(ctx, event.Cause{ID: x.requestID})
		ctx = observe.With(ctx, "request_id", x.requestID)

		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ww.Header().Set("X-Request-Id", x.requestID)
		a.active.Inc()
		// Deferred, so that an aborted connection is counted and logged too.
		defer func() {
			a.active.Dec()
			a.finish(ctx, span, r, ww, x, time.Since(started))
		}()
		next.ServeHTTP(ww, r.WithContext(ctx))
	})
}

func (a *around) finish(ctx context.Context, span trace.Span, r *http.Request, w middleware.WrapResponseWriter, x *exchange, took time.Duration) {
	status := w.Status()
	if status == 0 {
		status = http.StatusOK
	}
	// The pattern, never the path: ids in labels would make a series a customer.
	route := "unmatched"
	if rc := chi.RouteContext(r.Context()); rc != nil && rc.RoutePattern() != "" {
		route = rc.RoutePattern()
	}
	stream := strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream")
	if !stream {
		a.duration.WithLabelValues(knownMethod(r.Method), route, strconv.Itoa(status)).Observe(took.Seconds())
	}
	span.SetName(knownMethod(r.Method) + " " + route)
	span.SetAttributes(
		attribute.String("http.request.method", knownMethod(r.Method)), attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status), attribute.String("url.path", r.URL.Path),
	)
	attrs := []any{"method", r.Method, "path", r.URL.Path, "route", route, "status", status, "bytes", w.BytesWritten(), "duration", took}
	if x.err != nil {
		attrs = append(attrs, "error", x.err)
	}
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
		a.deps.Logger.ErrorContext(ctx, "request failed", attrs...)
		return
	}
	a.deps.Logger.DebugContext(ctx, "request", attrs...)
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// knownMethod keeps a label's values few: a method is any word that a client likes.
func knownMethod(m string) string {
	if slices.Contains(methods, m) {
		return m
	}
	return "OTHER"
}

func (a *around) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
				panic(cause)
			}
			err := fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 {
				// Half an answer is out: only closing the connection tells the client that it is not whole.
				if x := exchangeFrom(r.Context()); x != nil {
					x.err = err
				}
				a.deps.Logger.ErrorContext(r.Context(), "handler panicked in the middle of its answer", "error", err)
				panic(http.ErrAbortHandler)
			}
			Write(w, r, err)
		}()
		next.ServeHTTP(w, r)
	})
}

func (a *around) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			Write(w, r, NewProblem(http.StatusServiceUnavailable, "too many requests at once").
				WithHeader("Retry-After", strconv.Itoa(retryAfter)))
			return
		}
		caller, err := a.deps.Identify(r)
		if err != nil {
			Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), caller)))
	})
}

func notFound(w http.ResponseWriter, r *http.Request) {
	Write(w, r, NotFound("nothing is served at this path"))
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allow []string
	if rc := chi.RouteContext(r.Context()); rc != nil && rc.Routes != nil {
		for _, m := range methods {
			if rc.Routes.Match(chi.NewRouteContext(), m, r.URL.EscapedPath()) {
				allow = append(allow, m)
			}
		}
	}
	list := strings.Join(allow, ", ")
	Write(w, r, NewProblem(http.StatusMethodNotAllowed, "the method must be one of %s", list).WithHeader("Allow", list))
}
