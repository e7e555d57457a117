// Package payment charges and refunds orders when it is told to, and says what came of it.
package payment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/api/events"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/jsoncall"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/payment/internal/payments"
	"github.com/orderflow/orderflow/services/payment/internal/provider/remote"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
	"github.com/orderflow/orderflow/services/payment/internal/rest"
	"github.com/orderflow/orderflow/services/payment/internal/store"
)

// Name is the service's name and its consumer group.
const Name = "payment"

// Which provider moves the money.
const (
	providerSandbox = "sandbox"
	providerHTTP    = "http"
)

// Config is the environment.
type Config struct {
	service.Base
	App      app.Config
	Provider string        `env:"PAYMENT_PROVIDER" envDefault:"sandbox" desc:"who moves the money: sandbox (in this process, with test tokens) or http"`
	URL      string        `env:"PAYMENT_PROVIDER_URL" desc:"base URL of the provider, wanted for PAYMENT_PROVIDER=http"`
	Token    string        `env:"PAYMENT_PROVIDER_TOKEN" secret:"true" desc:"secret that the provider knows us by, for PAYMENT_PROVIDER=http"`
	Timeout  time.Duration `env:"PAYMENT_PROVIDER_TIMEOUT" envDefault:"3s" desc:"how long one answer of the provider may take, 10ms to 1m"`
	Attempts int           `env:"PAYMENT_PROVIDER_ATTEMPTS" envDefault:"2" desc:"how often one call to an http provider is tried each time the message is, 1 to 10"`
	Failures int           `env:"PAYMENT_PROVIDER_BREAKER_FAILURES" envDefault:"5" desc:"how many different charges or refunds must fail in a row for an http provider to count as away; commands then wait for it, 1 to 1000"`
	Cooldown time.Duration `env:"PAYMENT_PROVIDER_BREAKER_COOLDOWN" envDefault:"5s" desc:"how often an http provider that counts as away is asked again, by one call, 10ms to 10m"`
	Slow     time.Duration `env:"PAYMENT_SANDBOX_SLOW" envDefault:"1s" desc:"how long the sandbox takes over tok_slow, 0s to 1m"`
}

// Defaults gives the service its own port.
func (Config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8082"} }

// Validate names every setting that is out of its range.
func (c Config) Validate() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Provider {
	case providerSandbox:
	case providerHTTP:
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// The value is not shown: it may hold a password.
			errs = append(errs, errors.New("PAYMENT_PROVIDER_URL must be http://host or https://host when PAYMENT_PROVIDER is http"))
		}
	default:
		wrong("PAYMENT_PROVIDER is %q, must be sandbox or http", c.Provider)
	}
	if c.App.ReplayGroup != "" && c.Provider != providerSandbox {
		wrong("REPLAY_GROUP is set, must be empty unless PAYMENT_PROVIDER is sandbox: history would ask the provider for money again")
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute {
		wrong("PAYMENT_PROVIDER_TIMEOUT is %s, must be from 10ms to 1m", c.Timeout)
	}
	if c.Attempts < 1 || c.Attempts > 10 {
		wrong("PAYMENT_PROVIDER_ATTEMPTS is %d, must be from 1 to 10", c.Attempts)
	}
	if c.Failures < 1 || c.Failures > 1000 {
		wrong("PAYMENT_PROVIDER_BREAKER_FAILURES is %d, must be from 1 to 1000", c.Failures)
	}
	if c.Cooldown < 10*time.Millisecond || c.Cooldown > 10*time.Minute {
		wrong("PAYMENT_PROVIDER_BREAKER_COOLDOWN is %s, must be from 10ms to 10m", c.Cooldown)
	}
	if c.Slow < 0 || c.Slow > time.Minute {
		wrong("PAYMENT_SANDBOX_SLOW is %s, must be from 0s to 1m", c.Slow)
	}
	return errs
}

// backoff is the wait before the second attempt of one call.
const backoff = 200 * time.Millisecond

// Run wires the service.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	a, err := app.New(ctx, rt, cfg.Base, cfg.App, app.Options{
		Source: "/orderflow/payment", Key: "order_id", Validate: events.Validate,
		Topics:     kafka.Topics(events.TopicsOf(Name)),
		Migrations: store.Migrations(), Also: map[string]fs.FS{"sandbox": sandbox.Migrations()},
	})
	if err != nil {
		return err
	}
	reader := store.NewReader(a.DB)
	server := &rest.Server{DB: a.DB, Payments: reader}
	handlers := &payments.Payments{Known: reader, NewID: a.Events.NewID}
	if cfg.Provider == providerHTTP {
		p, err := remote.New(remote.Config{
			URL: cfg.URL, Token: cfg.Token, Timeout: cfg.Timeout, Attempts: cfg.Attempts, Backoff: backoff,
			BreakerFailures: cfg.Failures, BreakerCooldown: cfg.Cooldown,
		}, jsoncall.Deps{Logger: rt.Logger, Registry: rt.Registry, Now: time.Now, Jitter: rand.Float64})
		if err != nil {
			return err
		}
		rt.OnStop("payment provider", func(context.Context) error { p.Close(); return nil })
		handlers.Provider = p
	} else {
		p := sandbox.New(sandbox.Config{Slow: cfg.Slow, Timeout: cfg.Timeout}, a.DB, a.Events.Now, a.Events.NewID)
		handlers.Provider, server.Ledger = p, p.Totals
	}
	handlers.Listen(a.Consumer)

	spec, err := paymentapi.GetSpec()
	if err != nil {
		return fmt.Errorf("payment API: %w", err)
	}
	httpapi.Mount(a.Router, spec, httpapi.MountOptions{}, func(r chi.Router) {
		paymentapi.HandlerWithOptions(paymentapi.NewStrictHandlerWithOptions(server, nil, paymentapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), paymentapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	return a.Start(ctx)
}
