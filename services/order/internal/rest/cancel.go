package rest

import (
	"context"
	"errors"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/order/internal/fulfilment"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

// CancelOrder cancels an order for its customer.
func (s *Server) CancelOrder(ctx context.Context, r orderapi.CancelOrderRequestObject) (orderapi.CancelOrderResponseObject, error) {
	ctx = observe.With(ctx, "order_id", r.OrderID)
	caller := httpapi.CallerFrom(ctx)
	var o rules.Order
	err := s.App.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		var err error
		o, err = s.Fulfilment.Cancel(ctx, tx, r.OrderID, "asked for by "+caller.String(), func(o rules.Order) error {
			if !caller.Owns(o.CustomerID) {
				return httpapi.NotFound("there is no order %s", o.ID)
			}
			if r.Params.IfMatch == nil {
				return nil
			}
			return httpapi.CheckIfMatch(*r.Params.IfMatch, o.Version)
		})
		return err
	})
	switch {
	case errors.Is(err, fulfilment.ErrTooLate):
		return nil, httpapi.Conflict("%s", err.Error())
	case err != nil:
		return nil, notFound(err, r.OrderID)
	}
	return orderapi.CancelOrder202JSONResponse{
		Body:    body(o),
		Headers: orderapi.CancelOrder202ResponseHeaders{ETag: httpapi.ETag(o.Version), Location: location(o)},
	}, nil
}
