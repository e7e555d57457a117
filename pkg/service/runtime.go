package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
)

// Runtime is what a service's run function wires itself into. Its methods are for that function; they may be called
// from any goroutine.
type Runtime struct {
	Name     string
	Logger   *slog.Logger
	Registry *prometheus.Registry
	Tracer   observe.TracerProvider
	// Addr is where HTTP is served, with the port that was taken.
	Addr net.Addr

	api       atomic.Pointer[http.Handler]
	health    *health
	consumers *group
	others    *group

	mu      sync.Mutex
	closers []closer
}

type closer struct {
	name string
	fn   func(context.Context) error
}

// Go runs fn in the background, from now until phase 3 of the stop: relays, timers, purges. fn must return when its
// context ends. An error or a panic stops the process; nil only ends fn.
func (rt *Runtime) Go(name string, fn func(ctx context.Context) error) { rt.others.run(name, fn) }

// Every is Go for upkeep: it calls fn once an interval, the first time after one. What fails is logged and tried again in
// the next round: nothing may depend on it.
func (rt *Runtime) Every(name string, interval time.Duration, fn func(ctx context.Context) error) {
	rt.Go(name, func(ctx context.Context) error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				rt.Logger.WarnContext(ctx, "upkeep failed, trying again later", "of", name, "error", err)
			}
		}
	})
}

// Consume is Go for what takes work in, such as consumers: its context ends in phase 2, and the background functions
// are still there while it finishes.
func (rt *Runtime) Consume(name string, fn func(ctx context.Context) error) {
	rt.consumers.run(name, fn)
}

// OnStop registers a closer for phase 4; the last registered is called first. It is called however the process stops.
func (rt *Runtime) OnStop(name string, fn func(ctx context.Context) error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.closers = append(rt.closers, closer{name, fn})
}

// Check adds a condition of readiness. It is called when a probe asks, at most twice a second, and has 2 seconds.
func (rt *Runtime) Check(name string, fn func(ctx context.Context) error) { rt.health.add(name, fn) }

// HTTP serves handler beside /livez, /readyz and /metrics; until it is called the API answers 503.
func (rt *Runtime) HTTP(handler http.Handler) { rt.api.Store(&handler) }

// Await calls fn until it succeeds, while the infrastructure that it needs is away (fault.Unavailable), and makes
// readiness say what the start waits for. Any other error is returned at once. It waits between calls, up to 5 seconds.
func (rt *Runtime) Await(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	wait := 100 * time.Millisecond
	defer rt.health.waiting(name, nil)
	for {
		err := fn(ctx)
		if err == nil || fault.KindOf(err) != fault.Unavailable || ctx.Err() != nil {
			return err
		}
		rt.health.waiting(name, err)
		rt.Logger.WarnContext(ctx, "waiting", "for", name, "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func (rt *Runtime) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", rt.health.serve)
	mux.Handle("GET /metrics", observe.MetricsHandler(rt.Registry))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if api := rt.api.Load(); api != nil {
			(*api).ServeHTTP(w, r)
			return
		}
		httpapi.Write(w, r, fault.Unavailablef("starting"))
	})
	return mux
}

// group is a set of functions with one context, each waited for by name.
type group struct {
	ctx     context.Context
	cancel  context.CancelFunc
	fail    context.CancelCauseFunc
	mu      sync.Mutex
	running map[string]int
	errs    []error
	left    chan struct{} // one token when a function has ended
}

func newGroup(fail context.CancelCauseFunc) *group {
	g := &group{fail: fail, running: map[string]int{}, left: make(chan struct{}, 1)}
	// Not the process's context: that ends before it is this group's turn.
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func (g *group) run(name string, fn func(context.Context) error) {
	g.mu.Lock()
	g.running[name]++
	g.mu.Unlock()
	go func() {
		defer func() {
			g.mu.Lock()
			if g.running[name]--; g.running[name] == 0 {
				delete(g.running, name)
			}
			g.mu.Unlock()
			select {
			case g.left <- struct{}{}:
			default:
			}
		}()
		// The end of the context is how a function is told to return; handing that back is no failure.
		if err := guarded(g.ctx, fn); err != nil && !(g.ctx.Err() != nil && errors.Is(err, context.Canceled)) {
			err = fmt.Errorf("%s: %w", name, err)
			g.mu.Lock()
			g.errs = append(g.errs, err)
			g.mu.Unlock()
			g.fail(err)
		}
	}()
}

// guarded turns a panic into an error, so that the stop is in order and the cause is logged as one.
func guarded(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(ctx)
}

// stop ends the group's context and waits for its functions. It returns their errors but for cause, which is known
// already, and when ctx ends first it names those that still run.
func (g *group) stop(ctx context.Context, cause error) error {
	g.cancel()
	for {
		g.mu.Lock()
		names := slices.Sorted(maps.Keys(g.running))
		errs := slices.DeleteFunc(slices.Clone(g.errs), func(err error) bool { return err == cause }) //nolint:errorlint // this very one
		g.mu.Unlock()
		if len(names) == 0 {
			return errors.Join(errs...)
		}
		select {
		case <-g.left:
		case <-ctx.Done():
			return errors.Join(append(errs, fmt.Errorf("still running at the deadline: %v", names))...)
		}
	}
}
