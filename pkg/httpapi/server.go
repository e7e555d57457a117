package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Bounds of a connection. Event streams move their own deadlines, write by write.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
)

// Server is an http.Server with bounds, whose event streams end when it shuts down.
type Server struct {
	server   *http.Server
	draining chan struct{}
	once     sync.Once
}

type drainKey struct{}

// NewServer returns a server of handler.
func NewServer(handler http.Handler, logger *slog.Logger) *Server {
	s := &Server{draining: make(chan struct{})}
	s.server = &http.Server{
		Handler: handler, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), drainKey{}, s.draining)
		},
	}
	return s
}

// Serve answers requests until Shutdown, then returns nil; it returns the error that stopped it otherwise.
func (s *Server) Serve(l net.Listener) error {
	if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.AsUnavailable(fmt.Errorf("http server: %w", err))
	}
	return nil
}

// Shutdown takes no new connections, tells event streams to end, and waits for the requests at work. When ctx ends
// first, they are cut off and the error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.draining) })
	if err := s.server.Shutdown(ctx); err != nil {
		_ = s.server.Close()
		return fmt.Errorf("requests were cut off: %w", err)
	}
	return nil
}

// Draining returns a channel that is closed when the server of the request in ctx shuts down. Long answers end then.
// Outside a Server it is nil and never ready.
func Draining(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(drainKey{}).(chan struct{})
	return c
}
