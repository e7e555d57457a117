package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// control lets the command that `orderctl run` runs break its system: POST /kill/NAME is a SIGKILL, POST /restart/NAME
// brings a service or a server back and answers when it is ready. 204 is done; 409 says why not.
type control struct {
	url    string
	server *http.Server
}

func serveControl(ctx context.Context, s system) (*control, error) {
	mux := http.NewServeMux()
	handle := func(verb string, do func(ctx context.Context, name string) error) {
		mux.HandleFunc("POST /"+verb+"/{name}", func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	handle("kill", func(_ context.Context, name string) error { return s.Kill(name) })
	handle("restart", s.Restart)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{url: "http://" + listener.Addr().String(), server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}
	go func() { _ = c.server.Serve(listener) }() // ends with close
	return c, nil
}

// close stops listening.
func (c *control) close() error {
	if err := c.server.Close(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
