// Package shipping has orders carried when it is told to, and says what came of it.
package shipping

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
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/jsoncall"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/remote"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
	"github.com/orderflow/orderflow/services/shipping/internal/rest"
	"github.com/orderflow/orderflow/services/shipping/internal/shipments"
	"github.com/orderflow/orderflow/services/shipping/internal/store"
)

// Name is the service's name and its consumer group.
const Name = "shipping"

// Which carrier moves the parcels.
const (
	carrierSandbox = "sandbox"
	carrierHTTP    = "http"
)

// Config is the environment.
type Config struct {
	service.Base
	App      app.Config
	Carrier  string        `env:"CARRIER" envDefault:"sandbox" desc:"who moves the parcels: sandbox (in this process, with test places) or http"`
	URL      string        `env:"CARRIER_URL" desc:"base URL of the carrier, wanted for CARRIER=http"`
	Token    string        `env:"CARRIER_TOKEN" secret:"true" desc:"secret that the carrier knows us by, for CARRIER=http"`
	Timeout  time.Duration `env:"CARRIER_TIMEOUT" envDefault:"3s" desc:"how long one answer of the carrier may take, 10ms to 1m"`
	Attempts int           `env:"CARRIER_ATTEMPTS" envDefault:"2" desc:"how often one call to an http carrier is tried each time the message is, 1 to 10"`
	Failures int           `env:"CARRIER_BREAKER_FAILURES" envDefault:"5" desc:"how many different parcels or cancellations must fail in a row for an http carrier to count as away; commands then wait for it, 1 to 1000"`
	Cooldown time.Duration `env:"CARRIER_BREAKER_COOLDOWN" envDefault:"5s" desc:"how often an http carrier that counts as away is asked again, by one call, 10ms to 10m"`
	Slow     time.Duration `env:"CARRIER_SANDBOX_SLOW" envDefault:"1s" desc:"how long the sandbox takes over Slowtown, 0s to 1m"`
}

// Defaults gives the service its own port.
func (Config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8083"} }

// Validate names every setting that is out of its range.
func (c Config) Validate() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Carrier {
	case carrierSandbox:
	case carrierHTTP:
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// The value is not shown: it may hold a password.
			errs = append(errs, errors.New("CARRIER_URL must be http://host or https://host when CARRIER is http"))
		}
	default:
		wrong("CARRIER is %q, must be sandbox or http", c.Carrier)
	}
	if c.App.ReplayGroup != "" && c.Carrier != carrierSandbox {
		wrong("REPLAY_GROUP is set, must be empty unless CARRIER is sandbox: history would ask the carrier for parcels again")
	}
	if c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute {
		wrong("CARRIER_TIMEOUT is %s, must be from 10ms to 1m", c.Timeout)
	}
	if c.Attempts < 1 || c.Attempts > 10 {
		wrong("CARRIER_ATTEMPTS is %d, must be from 1 to 10", c.Attempts)
	}
	if c.Failures < 1 || c.Failures > 1000 {
		wrong("CARRIER_BREAKER_FAILURES is %d, must be from 1 to 1000", c.Failures)
	}
	if c.Cooldown < 10*time.Millisecond || c.Cooldown > 10*time.Minute {
		wrong("CARRIER_BREAKER_COOLDOWN is %s, must be from 10ms to 10m", c.Cooldown)
	}
	if c.Slow < 0 || c.Slow > time.Minute {
		wrong("CARRIER_SANDBOX_SLOW is %s, must be from 0s to 1m", c.Slow)
	}
	return errs
}

// backoff is the wait before the second attempt of one call.
const backoff = 200 * time.Millisecond

// Run wires the service.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	a, err := app.New(ctx, rt, cfg.Base, cfg.App, app.Options{
		Source: "/orderflow/shipping", Key: "order_id", Validate: events.Validate,
		Topics:     kafka.Topics(events.TopicsOf(Name)),
		Migrations: store.Migrations(), Also: map[string]fs.FS{"sandbox": sandbox.Migrations()},
	})
	if err != nil {
		return err
	}
	reader := store.NewReader(a.DB)
	handlers := &shipments.Shipments{Known: reader, NewID: a.Events.NewID}
	if cfg.Carrier == carrierHTTP {
		c, err := remote.New(remote.Config{
			URL: cfg.URL, Token: cfg.Token, Timeout: cfg.Timeout, Attempts: cfg.Attempts, Backoff: backoff,
			BreakerFailures: cfg.Failures, BreakerCooldown: cfg.Cooldown,
		}, jsoncall.Deps{Logger: rt.Logger, Registry: rt.Registry, Now: time.Now, Jitter: rand.Float64})
		if err != nil {
			return err
		}
		rt.OnStop("carrier", func(context.Context) error { c.Close(); return nil })
		handlers.Carrier = c
	} else {
		handlers.Carrier = sandbox.New(sandbox.Config{Slow: cfg.Slow, Timeout: cfg.Timeout}, a.DB, a.Events.Now)
	}
	handlers.Listen(a.Consumer)

	spec, err := shippingapi.GetSpec()
	if err != nil {
		return fmt.Errorf("shipping API: %w", err)
	}
	server := &rest.Server{DB: a.DB, Shipments: reader}
	httpapi.Mount(a.Router, spec, httpapi.MountOptions{}, func(r chi.Router) {
		shippingapi.HandlerWithOptions(shippingapi.NewStrictHandlerWithOptions(server, nil, shippingapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), shippingapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	return a.Start(ctx)
}
