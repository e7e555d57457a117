// Package rest serves the inventory service's API.
package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/orderflow/orderflow/api/events"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
	"github.com/orderflow/orderflow/services/inventory/internal/store"
)

// Server implements the generated strict server.
type Server struct {
	App *app.App
}

var _ inventoryapi.StrictServerInterface = (*Server)(nil)

// ListStock lists the stock of all products.
func (s *Server) ListStock(ctx context.Context, _ inventoryapi.ListStockRequestObject) (inventoryapi.ListStockResponseObject, error) {
	list, err := store.List(ctx, s.App.DB)
	if err != nil {
		return nil, err
	}
	items := make([]inventoryapi.Stock, len(list))
	for i, stock := range list {
		items[i] = body(stock)
	}
	return inventoryapi.ListStock200JSONResponse{Items: items}, nil
}

// GetStock reads the stock of one product.
func (s *Server) GetStock(ctx context.Context, r inventoryapi.GetStockRequestObject) (inventoryapi.GetStockResponseObject, error) {
	stock, err := store.Get(ctx, s.App.DB, r.SKU)
	if err != nil {
		return nil, unknownSKU(err, r.SKU)
	}
	return inventoryapi.GetStock200JSONResponse(body(stock)), nil
}

func body(s rules.Stock) inventoryapi.Stock {
	return inventoryapi.Stock{
		SKU: s.SKU, Received: s.Received, Available: s.Available, Reserved: s.Reserved, Shipped: s.Shipped,
	}
}

func unknownSKU(err error, sku string) error {
	if errors.Is(err, store.ErrNotFound) {
		return httpapi.NotFound("there is no product %s", sku)
	}
	return err
}

// restocked is the answer to goods taken in, fresh or stored.
type restocked httpapi.Response

// VisitRestockResponse sends it.
func (a restocked) VisitRestockResponse(w http.ResponseWriter) error {
	return httpapi.Response(a).Write(w)
}

// Restock takes goods in.
func (s *Server) Restock(ctx context.Context, r inventoryapi.RestockRequestObject) (inventoryapi.RestockResponseObject, error) {
	if err := httpapi.RequireStaff(ctx); err != nil {
		return nil, err
	}
	answer, err := s.App.Once(ctx, r.Params.IdempotencyKey, "POST /v1/stock/"+r.SKU+"/restock", r.Body,
		func(ctx context.Context, tx *outbox.Tx) (httpapi.Response, error) {
			lines := []events.Line{{SKU: r.SKU, Quantity: r.Body.Quantity}}
			stock, err := store.Lock(ctx, tx.Tx, lines)
			if err != nil {
				return httpapi.Response{}, err
			}
			now, known := stock[r.SKU]
			if !known {
				return httpapi.Response{}, unknownSKU(store.ErrNotFound, r.SKU)
			}
			if now.Received+int64(r.Body.Quantity) > rules.MaxStock {
				return httpapi.Response{}, httpapi.Conflict("at most %d pieces of a product can be received, %d have been", rules.MaxStock, now.Received)
			}
			if err := store.Move(ctx, tx.Tx, lines, rules.Stock.FromReceiving); err != nil {
				return httpapi.Response{}, err
			}
			return httpapi.JSONResponse(http.StatusOK, nil, body(now.FromReceiving(int64(r.Body.Quantity))))
		})
	if err != nil {
		return nil, err
	}
	return restocked(answer), nil
}

// GetReservation reads what an order holds. Whose order it is is not known here, so it is not for customers.
func (s *Server) GetReservation(ctx context.Context, r inventoryapi.GetReservationRequestObject) (inventoryapi.GetReservationResponseObject, error) {
	if err := httpapi.RequireStaff(ctx); err != nil {
		return nil, err
	}
	found, err := store.GetReservation(ctx, s.App.DB, r.OrderID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, httpapi.NotFound("nothing was reserved for an order %s", r.OrderID)
	}
	if err != nil {
		return nil, err
	}
	lines := make([]inventoryapi.Line, len(found.Lines))
	for i, l := range found.Lines {
		lines[i] = inventoryapi.Line{SKU: l.SKU, Quantity: l.Quantity}
	}
	return inventoryapi.GetReservation200JSONResponse{
		OrderID: found.OrderID, State: inventoryapi.ReservationState(found.State), Lines: lines,
		CreatedAt: found.CreatedAt, UpdatedAt: found.UpdatedAt,
	}, nil
}
