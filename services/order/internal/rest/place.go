package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/order/internal/rules"
	"github.com/orderflow/orderflow/services/order/internal/store"
)

// placed is the answer to a placed order, fresh or stored.
type placed httpapi.Response

// VisitCreateOrderResponse sends it.
func (p placed) VisitCreateOrderResponse(w http.ResponseWriter) error {
	return httpapi.Response(p).Write(w)
}

// CreateOrder places an order: order, saga, first messages and the stored answer commit together, so a 202 is a
// promise and a second request with the same key does nothing.
func (s *Server) CreateOrder(ctx context.Context, r orderapi.CreateOrderRequestObject) (orderapi.CreateOrderResponseObject, error) {
	if caller := httpapi.CallerFrom(ctx); !caller.Owns(r.Body.CustomerID) {
		return nil, httpapi.NewProblem(http.StatusForbidden, "customer_id must be the caller's own")
	}
	to := r.Body.ShippingAddress
	request := rules.Request{
		ID: s.App.Events.NewID(), CustomerID: r.Body.CustomerID, PaymentMethod: r.Body.PaymentMethod,
		ShippingAddress: events.Address{
			Name: to.Name, Street: to.Street, PostalCode: to.PostalCode, City: to.City, Country: to.Country,
		},
	}
	for _, l := range r.Body.Lines {
		request.Items = append(request.Items, rules.Item{SKU: l.SKU, Quantity: l.Quantity})
	}
	ctx = observe.With(ctx, "order_id", request.ID)
	catalogue, err := s.Catalogue.Of(ctx, request.Items)
	if err != nil {
		return nil, err
	}

	answer, err := s.App.Once(ctx, r.Params.IdempotencyKey, "POST /v1/orders", r.Body,
		func(ctx context.Context, tx *outbox.Tx) (httpapi.Response, error) {
			request.At = tx.Now()
			o, err := rules.Place(request, catalogue)
			if err != nil {
				return httpapi.Response{}, unprocessable(err)
			}
			if err := store.Insert(tx.Tx, o); err != nil {
				return httpapi.Response{}, err
			}
			if err := s.Fulfilment.Start(ctx, tx, o); err != nil {
				return httpapi.Response{}, err
			}
			return httpapi.JSONResponse(http.StatusAccepted,
				http.Header{"Location": {location(o)}, "Etag": {httpapi.ETag(o.Version)}}, body(o))
		})
	if err != nil {
		return nil, err
	}
	return placed(answer), nil
}

// unprocessable names every line that cannot be sold.
func unprocessable(err error) error {
	p := httpapi.Unprocessable("the order cannot be taken as it stands")
	var walk func(error)
	walk = func(err error) {
		var line rules.LineError
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
		} else if errors.As(err, &line) {
			p.Errors = append(p.Errors, httpapi.FieldError{
				In: "body", Path: "/lines/" + strconv.Itoa(line.Index) + "/" + line.Field, Detail: line.Allowed,
			})
		} else {
			p.Detail = err.Error()
		}
	}
	walk(err)
	return p
}
