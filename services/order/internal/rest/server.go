package rest

import (
	"errors"
	"time"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/services/order/internal/fulfilment"
	"github.com/orderflow/orderflow/services/order/internal/rules"
	"github.com/orderflow/orderflow/services/order/internal/store"
)

// Server implements the generated strict server.
type Server struct {
	App        *app.App
	Fulfilment *fulfilment.Fulfilment
	Sagas      *saga.Store
	Catalogue  *store.Catalogue
}

var _ orderapi.StrictServerInterface = (*Server)(nil)

func notFound(err error, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return httpapi.NotFound("there is no order %s", id)
	}
	return err
}

func location(o rules.Order) string { return "/v1/orders/" + o.ID }

func body(o rules.Order) orderapi.Order {
	lines := make([]orderapi.OrderLine, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = orderapi.OrderLine{
			SKU: l.SKU, Name: l.Name, Quantity: l.Quantity,
			UnitPrice: orderapi.Money(l.Price), LineTotal: orderapi.Money(l.Total),
		}
	}
	b := orderapi.Order{
		OrderID: o.ID, CustomerID: o.CustomerID, State: orderapi.OrderState(o.State), Version: o.Version, Lines: lines,
		Total: orderapi.Money(o.Total), ShippingAddress: address(o.ShippingAddress),
		TrackingNumber: optional(o.TrackingNumber), CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
	}
	if o.Failure != nil {
		b.Failure = failure(o.Failure.Code, o.Failure.Detail)
	}
	return b
}

func address(a events.Address) orderapi.Address {
	return orderapi.Address{Name: a.Name, Street: a.Street, PostalCode: a.PostalCode, City: a.City, Country: a.Country}
}

func failure(code, detail string) *orderapi.Failure {
	if code == "" {
		return nil
	}
	return &orderapi.Failure{Code: code, Detail: optional(detail)}
}

// optional is nil for a zero value, which the API leaves out.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
