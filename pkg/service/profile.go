package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof" // it registers with the default mux too, which nobody serves
	"time"
)

// profiles serves Go's profiles at addr until the process closes.
func (rt *Runtime) profiles(ctx context.Context, addr string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("PPROF_ADDR: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // and every profile of runtime/pprof by its name
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	rt.OnStop("profiles", func(context.Context) error {
		err := server.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
	rt.Logger.InfoContext(ctx, "profiles are served", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	return nil
}

// loopback tells whether addr is host:port of this machine alone.
func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return hostPort(addr, 0) && (host == "localhost" || ip != nil && ip.IsLoopback())
}
