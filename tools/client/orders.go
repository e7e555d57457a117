package client

import (
	"context"
	"fmt"

	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
)

// pageSize is the most that the lists give at once.
const pageSize = 100

// Place places an order under an idempotency key.
func (s *System) Place(ctx context.Context, key string, r orderapi.CreateOrderRequest) (orderapi.Order, error) {
	a, err := s.Orders.CreateOrderWithResponse(ctx, &orderapi.CreateOrderParams{IdempotencyKey: key}, r)
	if err != nil {
		return orderapi.Order{}, fmt.Errorf("place an order: %w", err)
	}
	return answered("place an order", a.JSON202, a.HTTPResponse, a.Body)
}

// Order reads an order.
func (s *System) Order(ctx context.Context, id string) (orderapi.Order, error) {
	a, err := s.Orders.GetOrderWithResponse(ctx, id)
	if err != nil {
		return orderapi.Order{}, fmt.Errorf("read order %s: %w", id, err)
	}
	return answered("read order "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// Cancel asks for an order's cancellation, whatever its version.
func (s *System) Cancel(ctx context.Context, id string) (orderapi.Order, error) {
	a, err := s.Orders.CancelOrderWithResponse(ctx, id, &orderapi.CancelOrderParams{})
	if err != nil {
		return orderapi.Order{}, fmt.Errorf("cancel order %s: %w", id, err)
	}
	return answered("cancel order "+id, a.JSON202, a.HTTPResponse, a.Body)
}

// Timeline reads an order's story.
func (s *System) Timeline(ctx context.Context, id string) (orderapi.Timeline, error) {
	a, err := s.Orders.GetTimelineWithResponse(ctx, id)
	if err != nil {
		return orderapi.Timeline{}, fmt.Errorf("read the timeline of order %s: %w", id, err)
	}
	return answered("read the timeline of order "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// Final tells whether an order will not change any more.
func Final(o orderapi.Order) bool {
	return o.State == orderapi.OrderStateConfirmed || o.State == orderapi.OrderStateCancelled
}

// Ended waits until an order is final.
func (s *System) Ended(ctx context.Context, id string) (orderapi.Order, error) {
	var o orderapi.Order
	err := Eventually(ctx, func(ctx context.Context) (err error) {
		if o, err = s.Order(ctx, id); err == nil && !Final(o) {
			err = fmt.Errorf("order %s is still %s", id, o.State)
		}
		return err
	})
	return o, err
}

// AllOrders lists the orders of a customer, or of all for an empty one, the newest first.
func (s *System) AllOrders(ctx context.Context, customer string) ([]orderapi.Order, error) {
	limit := pageSize
	params := &orderapi.ListOrdersParams{Limit: &limit}
	if customer != "" {
		params.CustomerID = &customer
	}
	var all []orderapi.Order
	for {
		a, err := s.Orders.ListOrdersWithResponse(ctx, params)
		if err != nil {
			return nil, fmt.Errorf("list orders: %w", err)
		}
		page, err := answered("list orders", a.JSON200, a.HTTPResponse, a.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all, nil
		}
		params.Cursor = page.NextCursor
	}
}

// Products lists the catalogue.
func (s *System) Products(ctx context.Context) ([]orderapi.Product, error) {
	a, err := s.Orders.ListProductsWithResponse(ctx)
	if err != nil {
		return nil, fmt.Errorf("list products: %w", err)
	}
	list, err := answered("list products", a.JSON200, a.HTTPResponse, a.Body)
	return list.Items, err
}

// Stock reads the books of every product by SKU.
func (s *System) Stock(ctx context.Context) (map[string]inventoryapi.Stock, error) {
	a, err := s.Inventory.ListStockWithResponse(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the stock: %w", err)
	}
	list, err := answered("list the stock", a.JSON200, a.HTTPResponse, a.Body)
	bySKU := map[string]inventoryapi.Stock{}
	for _, stock := range list.Items {
		bySKU[stock.SKU] = stock
	}
	return bySKU, err
}

// Restock takes goods in.
func (s *System) Restock(ctx context.Context, key, sku string, quantity int) (inventoryapi.Stock, error) {
	a, err := s.Inventory.RestockWithResponse(ctx, sku, &inventoryapi.RestockParams{IdempotencyKey: key},
		inventoryapi.RestockRequest{Quantity: quantity})
	if err != nil {
		return inventoryapi.Stock{}, fmt.Errorf("restock %s: %w", sku, err)
	}
	return answered("restock "+sku, a.JSON200, a.HTTPResponse, a.Body)
}

// Reservation reads what is held for an order, or was.
func (s *System) Reservation(ctx context.Context, id string) (inventoryapi.Reservation, error) {
	a, err := s.Inventory.GetReservationWithResponse(ctx, id)
	if err != nil {
		return inventoryapi.Reservation{}, fmt.Errorf("read the reservation of order %s: %w", id, err)
	}
	return answered("read the reservation of order "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// Payment reads an order's payment.
func (s *System) Payment(ctx context.Context, id string) (paymentapi.Payment, error) {
	a, err := s.Payments.GetPaymentWithResponse(ctx, id)
	if err != nil {
		return paymentapi.Payment{}, fmt.Errorf("read the payment of order %s: %w", id, err)
	}
	return answered("read the payment of order "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// PaymentTotals reads the payment service's books.
func (s *System) PaymentTotals(ctx context.Context) (paymentapi.PaymentTotals, error) {
	a, err := s.Payments.GetPaymentTotalsWithResponse(ctx)
	if err != nil {
		return paymentapi.PaymentTotals{}, fmt.Errorf("read the payment totals: %w", err)
	}
	return answered("read the payment totals", a.JSON200, a.HTTPResponse, a.Body)
}

// Shipment reads an order's shipment.
func (s *System) Shipment(ctx context.Context, id string) (shippingapi.Shipment, error) {
	a, err := s.Shipping.GetShipmentWithResponse(ctx, id)
	if err != nil {
		return shippingapi.Shipment{}, fmt.Errorf("read the shipment of order %s: %w", id, err)
	}
	return answered("read the shipment of order "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// ShipmentTotals reads how many shipments are in each state.
func (s *System) ShipmentTotals(ctx context.Context) (shippingapi.ShipmentTotals, error) {
	a, err := s.Shipping.GetShipmentTotalsWithResponse(ctx)
	if err != nil {
		return shippingapi.ShipmentTotals{}, fmt.Errorf("read the shipment totals: %w", err)
	}
	return answered("read the shipment totals", a.JSON200, a.HTTPResponse, a.Body)
}

// Figures reads the figures over all orders.
func (s *System) Figures(ctx context.Context) (analyticsapi.Figures, error) {
	a, err := s.Analytics.GetFiguresWithResponse(ctx)
	if err != nil {
		return analyticsapi.Figures{}, fmt.Errorf("read the figures: %w", err)
	}
	return answered("read the figures", a.JSON200, a.HTTPResponse, a.Body)
}

// CustomerTotals reads the figures over one customer's orders.
func (s *System) CustomerTotals(ctx context.Context, customer string) (analyticsapi.CustomerTotals, error) {
	a, err := s.Analytics.GetCustomerTotalsWithResponse(ctx, customer)
	if err != nil {
		return analyticsapi.CustomerTotals{}, fmt.Errorf("read the totals of %s: %w", customer, err)
	}
	return answered("read the totals of "+customer, a.JSON200, a.HTTPResponse, a.Body)
}
