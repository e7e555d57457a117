// Package inventory is the inventory service: stock, all-or-nothing reservations, and what has been shipped.
package inventory

import (
	"context"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/api/events"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/inventory/internal/rest"
	"github.com/orderflow/orderflow/services/inventory/internal/stock"
	"github.com/orderflow/orderflow/services/inventory/internal/store"
)

// Config is the service's configuration.
type Config struct {
	service.Base
	app.Config
}

// Defaults gives the service a port of its own, so that all can run on one machine.
func (Config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8081"} }

// Run wires the service into rt.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	a, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{
		Source: "/orderflow/inventory", Key: "order_id", Validate: events.Validate, Migrations: store.Migrations(),
		Topics: kafka.Topics(events.TopicsOf("inventory")),
	})
	if err != nil {
		return err
	}
	stock.Listen(a.Consumer)
	server := &rest.Server{App: a}
	err = a.Mount(inventoryapi.GetSpec, func(r chi.Router) {
		inventoryapi.HandlerWithOptions(inventoryapi.NewStrictHandlerWithOptions(server, nil, inventoryapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), inventoryapi.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	if err != nil {
		return err
	}
	return a.Start(ctx)
}
