// Package rest serves the shipping service's API.
package rest

import (
	"context"

	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
	"github.com/orderflow/orderflow/services/shipping/internal/store"
)

// Server implements the generated strict server.
type Server struct {
	DB        *database.DB
	Shipments *store.Reader
}

var _ shippingapi.StrictServerInterface = (*Server)(nil)

// GetShipment shows an order's shipment.
func (s *Server) GetShipment(ctx context.Context, r shippingapi.GetShipmentRequestObject) (shippingapi.GetShipmentResponseObject, error) {
	shipment, err := s.Shipments.Do(ctx, r.OrderID)
	if err != nil {
		return nil, err
	}
	// Somebody else's shipment is none: that it exists is not the caller's business.
	if shipment == nil || !httpapi.CallerFrom(ctx).Owns(shipment.CustomerID) {
		return nil, httpapi.NotFound("there is no shipment of order %s", r.OrderID)
	}
	return shippingapi.GetShipment200JSONResponse(body(*shipment)), nil
}

// GetShipmentTotals shows the books.
func (s *Server) GetShipmentTotals(ctx context.Context, _ shippingapi.GetShipmentTotalsRequestObject) (shippingapi.GetShipmentTotalsResponseObject, error) {
	t, err := store.Totals(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	return shippingapi.GetShipmentTotals200JSONResponse{
		Arranged: t.Arranged, Refused: t.Refused, Cancelled: t.Cancelled, Voided: t.Voided,
	}, nil
}

func body(s rules.Shipment) shippingapi.Shipment {
	b := shippingapi.Shipment{
		OrderID: s.OrderID, CustomerID: s.CustomerID, ShipmentID: optional(s.ID), State: shippingapi.ShipmentState(s.State),
		Carrier: optional(s.Carrier), TrackingNumber: optional(s.TrackingNumber),
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
	if s.Failure.Code != "" {
		b.Failure = &shippingapi.Failure{Code: s.Failure.Code, Detail: optional(s.Failure.Detail)}
	}
	return b
}

// optional is nil for an empty text, which the API leaves out.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
