// Package order is the order service: it takes orders over REST and runs their sagas.
package order

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/order/internal/fulfilment"
	"github.com/orderflow/orderflow/services/order/internal/rest"
	"github.com/orderflow/orderflow/services/order/internal/store"
)

// Config is the service's configuration.
type Config struct {
	service.Base
	app.Config
	StepDeadline time.Duration `env:"SAGA_STEP_DEADLINE" envDefault:"30s" desc:"how long a participant may take before its order is cancelled, 100ms to 24h"`
	UndoDeadline time.Duration `env:"SAGA_UNDO_DEADLINE" envDefault:"10s" desc:"how long it may take to undo before it is asked again, then doubled, 100ms to 24h"`
	UndoAttempts int           `env:"SAGA_UNDO_ATTEMPTS" envDefault:"10" desc:"how often it is asked to undo before an operator must look, 1 to 20"`
	TimerPoll    time.Duration `env:"SAGA_TIMER_POLL" envDefault:"250ms" desc:"how often deadlines are looked for, 10ms to 1m"`
}

// Validate names every setting that is out of its range.
func (c Config) Validate() []error {
	var errs []error
	within := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("%s is %s, must be from %s to %s", name, d, least, most))
		}
	}
	within("SAGA_STEP_DEADLINE", c.StepDeadline, 100*time.Millisecond, 24*time.Hour)
	within("SAGA_UNDO_DEADLINE", c.UndoDeadline, 100*time.Millisecond, 24*time.Hour)
	if c.UndoAttempts < 1 || c.UndoAttempts > saga.MaxUndoAttempts {
		errs = append(errs, fmt.Errorf("SAGA_UNDO_ATTEMPTS is %d, must be from 1 to %d", c.UndoAttempts, saga.MaxUndoAttempts))
	}
	within("SAGA_TIMER_POLL", c.TimerPoll, 10*time.Millisecond, time.Minute)
	if c.ReplayGroup != "" {
		errs = append(errs, errors.New("REPLAY_GROUP is set, must be empty for the order service: orders begin with a request and not with a message, so no history makes them anew"))
	}
	return errs
}

// Run wires the service into rt.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	a, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{
		Source: "/orderflow/order", Key: "order_id", Validate: events.Validate,
		Topics:     kafka.Topics(events.TopicsOf("order")),
		Migrations: store.Migrations(), Also: map[string]fs.FS{"saga": saga.Migrations},
	})
	if err != nil {
		return err
	}
	plan, plans, err := fulfilment.Plans(fulfilment.Limits{Do: cfg.StepDeadline, Undo: cfg.UndoDeadline, UndoAttempts: cfg.UndoAttempts})
	if err != nil {
		return err
	}
	sagas, err := saga.NewStore(rt.Registry, plans...)
	if err != nil {
		return err
	}
	f := fulfilment.New(plan, sagas, rt.Logger)
	f.Listen(a.Consumer)
	// Who handles nothing for a step's deadline is silent, and not behind. A second is often enough for deadlines of many.
	every := min(time.Second, max(20*time.Millisecond, min(cfg.StepDeadline, cfg.UndoDeadline)/10))
	settled, err := a.Settled(fulfilment.Participants(), cfg.StepDeadline, every)
	if err != nil {
		return err
	}
	timers := saga.NewTimers(a.DB, func(ctx context.Context, id string, at time.Time) error {
		return a.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
			return failpoint.After(f.Deadline(ctx, tx, id, at), failpoint.TimerBeforeCommit)
		})
	}, saga.TimersConfig{Interval: cfg.TimerPoll, Now: a.Events.Now, Logger: rt.Logger, Settled: settled})
	rt.Go("saga deadlines", timers.Run)
	rt.Every("failed compensations", cfg.LagInterval, func(ctx context.Context) error { return sagas.Observe(ctx, a.DB) })

	server := &rest.Server{App: a, Fulfilment: f, Sagas: sagas, Catalogue: store.NewCatalogue(a.DB)}
	err = a.Mount(orderapi.GetSpec, func(r chi.Router) {
		orderapi.HandlerWithOptions(orderapi.NewStrictHandlerWithOptions(server, nil, orderapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), orderapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	if err != nil {
		return err
	}
	return a.Start(ctx)
}
