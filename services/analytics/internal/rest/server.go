// Package rest serves the analytics service's API.
package rest

import (
	"context"
	"time"

	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/services/analytics/internal/rules"
	"github.com/orderflow/orderflow/services/analytics/internal/store"
)

// Server implements the generated strict server.
type Server struct {
	DB  *database.DB
	Now func() time.Time
}

var _ analyticsapi.StrictServerInterface = (*Server)(nil)

// Bounds of a range of minutes.
const (
	defaultRange = time.Hour
	maxRange     = 24 * time.Hour
)

// GetFigures reads the orders by state and the revenue by currency.
func (s *Server) GetFigures(ctx context.Context, _ analyticsapi.GetFiguresRequestObject) (analyticsapi.GetFiguresResponseObject, error) {
	states, revenue, err := store.Figures(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	figures := analyticsapi.Figures{
		Orders: analyticsapi.OrderCounts{
			Pending: states[rules.Pending], Confirmed: states[rules.StateConfirmed], Cancelled: states[rules.StateCancelled],
		},
		Revenue: make([]analyticsapi.Money, len(revenue)),
	}
	for _, n := range states {
		figures.Orders.Total += n
	}
	for i, r := range revenue {
		figures.Revenue[i] = analyticsapi.Money{Amount: r.Amount, Currency: r.Currency}
	}
	return analyticsapi.GetFigures200JSONResponse(figures), nil
}

// GetOrdersPerMinute reads the windows between two instants.
func (s *Server) GetOrdersPerMinute(ctx context.Context, r analyticsapi.GetOrdersPerMinuteRequestObject) (analyticsapi.GetOrdersPerMinuteResponseObject, error) {
	to := s.Now().UTC()
	if r.Params.To != nil {
		to = r.Params.To.UTC()
	}
	from := to.Add(-defaultRange)
	if r.Params.From != nil {
		from = r.Params.From.UTC()
	}
	if !from.Before(to) || to.Sub(from) > maxRange {
		return nil, httpapi.BadRequest("the range of time cannot be read", httpapi.FieldError{
			In: "query", Path: "from", Detail: "must be before to, and at most 24 hours before it",
		})
	}
	minutes, err := store.Minutes(ctx, s.DB, from.Truncate(time.Minute), to)
	if err != nil {
		return nil, err
	}
	windows := make([]analyticsapi.Window, len(minutes))
	for i, m := range minutes {
		windows[i] = analyticsapi.Window{Start: m.Start, Created: m.Created, Confirmed: m.Confirmed, Cancelled: m.Cancelled}
	}
	return analyticsapi.GetOrdersPerMinute200JSONResponse{From: from, To: to, Windows: windows}, nil
}

// GetCustomerTotals reads one customer's totals.
func (s *Server) GetCustomerTotals(ctx context.Context, r analyticsapi.GetCustomerTotalsRequestObject) (analyticsapi.GetCustomerTotalsResponseObject, error) {
	if !httpapi.CallerFrom(ctx).Owns(r.CustomerID) {
		return nil, unknownCustomer(r.CustomerID)
	}
	byCurrency, err := store.Customer(ctx, s.DB, r.CustomerID)
	if err != nil {
		return nil, err
	}
	if len(byCurrency) == 0 {
		return nil, unknownCustomer(r.CustomerID)
	}
	totals := analyticsapi.CustomerTotals{CustomerID: r.CustomerID, Spent: []analyticsapi.Money{}}
	for _, t := range byCurrency {
		totals.Orders.Total += t.Orders
		totals.Orders.Confirmed += t.Confirmed
		totals.Orders.Cancelled += t.Cancelled
		if t.Confirmed > 0 {
			totals.Spent = append(totals.Spent, analyticsapi.Money{Amount: t.Spent, Currency: t.Currency})
		}
	}
	// A final event may be here before order.created; it counts as an order all the same.
	totals.Orders.Pending = totals.Orders.Total - totals.Orders.Confirmed - totals.Orders.Cancelled
	return analyticsapi.GetCustomerTotals200JSONResponse(totals), nil
}

func unknownCustomer(id string) error {
	return httpapi.NotFound("there are no orders of a customer %s", id)
}
