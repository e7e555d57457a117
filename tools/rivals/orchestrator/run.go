package orchestrator

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// The roles of the program.
const (
	Orchestrator = "orchestrator"
	Inventory    = "inventory"
	Payment      = "payment"
	Shipping     = "shipping"
)

// Services are the roles that have a database.
func Services() []string { return []string{Inventory, Payment, Shipping} }

const (
	// idleConnections is how many connections to each service the orchestrator keeps: one for each order under way.
	idleConnections = 4096
	callTimeout     = 30 * time.Second
	stopTimeout     = 10 * time.Second
)

// Config is a process.
type Config struct {
	Role        string `arg:"" enum:"orchestrator,inventory,payment,shipping" help:"Which of the four this process is."`
	Addr        string `env:"HTTP_ADDR" required:"" help:"Where it listens, host:port."`
	DatabaseURL string `env:"DATABASE_URL" help:"The database of a service."`
	Pool        int    `env:"RIVAL_POOL" default:"24" help:"How many connections to its database a service keeps; more orders than that at a time wait for one."`
	Inventory   string `env:"INVENTORY_URL" help:"The orchestrator's way to inventory."`
	Payment     string `env:"PAYMENT_URL" help:"The orchestrator's way to payment."`
	Shipping    string `env:"SHIPPING_URL" help:"The orchestrator's way to shipping."`
}

// Run serves until ctx ends, and lets the requests under way finish.
func Run(ctx context.Context, cfg Config) (err error) {
	router := chi.NewRouter()
	ready := func(context.Context) error { return nil }
	if cfg.Role == Orchestrator {
		o := newOrchestrator(cfg)
		defer o.http.CloseIdleConnections()
		router.Post("/v1/orders", o.order)
	} else {
		db, err := open(ctx, cfg)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }() // nothing is under way any more
		ready = db.PingContext
		routes(cfg.Role, db, router)
	}
	router.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: router, ReadHeaderTimeout: callTimeout}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- server.Shutdown(stop)
	})()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// open opens a service's database and makes its tables.
func open(ctx context.Context, cfg Config) (*sql.DB, error) {
	db, err := sql.Open("pgx", cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(cfg.Pool)
	db.SetMaxIdleConns(cfg.Pool)
	if _, err := db.ExecContext(ctx, schemas[cfg.Role]); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables of %s: %w", cfg.Role, err), db.Close())
	}
	if cfg.Role == Inventory {
		for _, p := range Products() {
			if _, err := db.ExecContext(ctx, `INSERT INTO stock VALUES ($1, $2, $2, 0, 0) ON CONFLICT DO NOTHING`, p.SKU, Stock); err != nil {
				return nil, errors.Join(fmt.Errorf("take in %s: %w", p.SKU, err), db.Close())
			}
		}
	}
	return db, nil
}

// answer writes what fn returns for the request's body, or its error.
func answer[Q, A any](fn func(ctx context.Context, q Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := fn(r.Context(), q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a) // the client is gone
	}
}
