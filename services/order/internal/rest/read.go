package rest

import (
	"context"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/services/order/internal/rules"
	"github.com/orderflow/orderflow/services/order/internal/store"
)

// listKind names the cursors of the list of orders; a cursor is the id of the last order of the page before.
const listKind = "orders/1"

// defaultLimit is the length of a page whose request does not say.
const defaultLimit = 20

// ListProducts lists the catalogue.
func (s *Server) ListProducts(ctx context.Context, _ orderapi.ListProductsRequestObject) (orderapi.ListProductsResponseObject, error) {
	products, err := store.Products(ctx, s.App.DB)
	if err != nil {
		return nil, err
	}
	items := make([]orderapi.Product, len(products))
	for i, p := range products {
		items[i] = orderapi.Product{SKU: p.SKU, Name: p.Name, Price: orderapi.Money(p.Price)}
	}
	return orderapi.ListProducts200JSONResponse{Items: items}, nil
}

// ListOrders lists orders, the newest first.
func (s *Server) ListOrders(ctx context.Context, r orderapi.ListOrdersRequestObject) (orderapi.ListOrdersResponseObject, error) {
	f := store.Filter{Limit: defaultLimit}
	if r.Params.Limit != nil {
		f.Limit = *r.Params.Limit
	}
	if r.Params.CustomerID != nil {
		f.CustomerID = *r.Params.CustomerID
	}
	if caller := httpapi.CallerFrom(ctx); caller.Kind == httpapi.Customer {
		if f.CustomerID != "" && !caller.Owns(f.CustomerID) {
			return orderapi.ListOrders200JSONResponse{Body: orderapi.OrderPage{Items: []orderapi.Order{}}}, nil
		}
		f.CustomerID = caller.ID
	}
	if r.Params.State != nil {
		f.State = rules.State(*r.Params.State)
	}
	if r.Params.Cursor != nil {
		var err error
		if f.Before, err = httpapi.DecodeCursor[string](listKind, *r.Params.Cursor); err != nil {
			return nil, err
		}
	}
	limit := f.Limit
	f.Limit++ // one more than shown tells whether there is a next page
	orders, err := store.List(ctx, s.App.DB, f)
	if err != nil {
		return nil, err
	}
	var next, link *string
	if len(orders) > limit {
		orders = orders[:limit]
		cursor, err := httpapi.EncodeCursor(listKind, orders[limit-1].ID)
		if err != nil {
			return nil, err
		}
		next, link = &cursor, optional(httpapi.NextLink(ctx, cursor))
	}
	items := make([]orderapi.Order, len(orders))
	for i, o := range orders {
		items[i] = body(o)
	}
	return orderapi.ListOrders200JSONResponse{
		Body:    orderapi.OrderPage{Items: items, NextCursor: next},
		Headers: orderapi.ListOrders200ResponseHeaders{Link: link},
	}, nil
}

// get reads an order that the caller may see.
func (s *Server) get(ctx context.Context, id string) (rules.Order, error) {
	o, err := store.Get(ctx, s.App.DB, id)
	if err == nil && !httpapi.CallerFrom(ctx).Owns(o.CustomerID) {
		err = store.ErrNotFound
	}
	return o, notFound(err, id)
}

// GetOrder reads one order.
func (s *Server) GetOrder(ctx context.Context, r orderapi.GetOrderRequestObject) (orderapi.GetOrderResponseObject, error) {
	o, err := s.get(ctx, r.OrderID)
	if err != nil {
		return nil, err
	}
	return orderapi.GetOrder200JSONResponse{
		Body: body(o), Headers: orderapi.GetOrder200ResponseHeaders{ETag: httpapi.ETag(o.Version)},
	}, nil
}
