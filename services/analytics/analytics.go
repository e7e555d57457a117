// Package analytics is the analytics service: live figures of all orders. It listens only.
package analytics

import (
	"context"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/api/events"
	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/analytics/internal/listen"
	"github.com/orderflow/orderflow/services/analytics/internal/rest"
	"github.com/orderflow/orderflow/services/analytics/internal/store"
)

// Config is the service's configuration.
type Config struct {
	service.Base
	app.Config
}

// Defaults gives the service a port of its own, so that all can run on one machine.
func (Config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8085"} }

// Run wires the service into rt.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	a, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{
		Source: "/orderflow/analytics", Key: "order_id", Validate: events.Validate, Migrations: store.Migrations(),
		Topics: kafka.Topics(events.TopicsOf("analytics")),
	})
	if err != nil {
		return err
	}
	listen.Listen(a.Consumer)
	server := &rest.Server{DB: a.DB, Now: a.Events.Now}
	err = a.Mount(analyticsapi.GetSpec, func(r chi.Router) {
		analyticsapi.HandlerWithOptions(analyticsapi.NewStrictHandlerWithOptions(server, nil, analyticsapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), analyticsapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	if err != nil {
		return err
	}
	return a.Start(ctx)
}
