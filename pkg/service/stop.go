package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
)

// errStop is the cause of a stop that was asked for.
var errStop = errors.New("asked to stop")

// serve is a process's life from its first listener to its last closer. It returns why the process failed, or nil.
func serve(ctx context.Context, name string, base Base, logger *slog.Logger, p Process, run func(context.Context, *Runtime) error) error {
	tracer, err := observe.Tracing(ctx, observe.TraceConfig{Service: name, Version: Version(), Endpoint: base.OTLPEndpoint})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", base.HTTPAddr)
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	life, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	defer context.AfterFunc(ctx, func() { fail(errStop) })()
	rt := &Runtime{
		Name: name, Logger: logger, Registry: observe.NewRegistry(name, Version()), Tracer: tracer, Addr: listener.Addr(),
		health: newHealth(), consumers: newGroup(fail), others: newGroup(fail),
	}
	rt.OnStop("tracing", func(ctx context.Context) error {
		// Spans that a collector did not take are no reason to call a stop unclean.
		if err := tracer.Shutdown(ctx); err != nil {
			logger.WarnContext(ctx, "spans were lost at the stop", "error", err)
		}
		return nil
	})
	if base.PprofAddr != "" {
		if err := rt.profiles(ctx, base.PprofAddr); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	server := httpapi.NewServer(rt.handler(), logger)
	httpDone := make(chan struct{})
	go func() {
		defer close(httpDone)
		if err := server.Serve(listener); err != nil {
			fail(err)
		}
	}()
	logger.InfoContext(ctx, "listening", "addr", listener.Addr().String())
	if p.OnStart != nil {
		p.OnStart(rt)
	}
	if err := guarded(life, func(ctx context.Context) error { return run(ctx, rt) }); err != nil {
		if life.Err() == nil || !errors.Is(err, context.Canceled) {
			fail(fmt.Errorf("start: %w", err))
		}
	}
	if life.Err() == nil {
		rt.health.setState(running)
		logger.InfoContext(ctx, "running", "addr", listener.Addr().String())
	}
	<-life.Done()
	cause := context.Cause(life)
	if errors.Is(cause, errStop) {
		cause = nil
	}
	return errors.Join(cause, rt.stop(base, p.Abort, cause, server, httpDone))
}

// closing is what closers get of the deadline at least, so that a consumer that hangs does not leave a database open.
const closing = time.Second

// stop goes through the phases. It returns what did not end in time or failed to close.
func (rt *Runtime) stop(base Base, abort <-chan struct{}, cause error, server *httpapi.Server, httpDone <-chan struct{}) error {
	deadline := time.Now().Add(base.ShutdownTimeout)
	all, cancelAll := context.WithDeadlineCause(context.Background(), deadline, errors.New("SHUTDOWN_TIMEOUT"))
	defer cancelAll()
	aborted := make(chan struct{})
	go func() {
		select {
		case <-abort:
			cancelAll()
			close(aborted)
		case <-all.Done():
		}
	}()
	ctx, cancel := context.WithDeadline(all, deadline.Add(-min(closing, base.ShutdownTimeout/4)))
	defer cancel()

	rt.health.setState(draining)
	rt.Logger.Info("draining", "timeout", base.ShutdownTimeout, "failed", cause != nil)
	if cause == nil && base.DrainDelay > 0 {
		select {
		case <-time.After(base.DrainDelay):
		case <-ctx.Done():
		}
	}
	var errs []error
	phase := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	httpErr := make(chan error, 1)
	go func() { httpErr <- server.Shutdown(ctx) }()
	phase("consumers", rt.consumers.stop(ctx, cause))
	phase("http", <-httpErr)
	<-httpDone
	phase("background", rt.others.stop(ctx, cause))
	phase("close", rt.close(all))
	select {
	case <-aborted:
		return errors.New("told twice to stop: ended at once")
	default:
		return errors.Join(errs...)
	}
}

// close calls the closers in reverse. One that does not return when ctx ends is left behind, and named.
func (rt *Runtime) close(ctx context.Context) error {
	rt.mu.Lock()
	closers := slices.Clone(rt.closers)
	rt.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(closers) {
		done := make(chan error, 1)
		go func() { done <- guarded(ctx, c.fn) }()
		select {
		case err := <-done:
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("%s: still closing at the deadline", c.name))
		}
	}
	return errors.Join(errs...)
}
