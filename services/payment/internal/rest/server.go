// Package rest serves the payment service's API.
package rest

import (
	"context"

	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
	"github.com/orderflow/orderflow/services/payment/internal/store"
)

// Server implements the generated strict server.
type Server struct {
	DB       *database.DB
	Payments *store.Reader
	// Ledger, if not nil, returns the provider's own totals.
	Ledger func(ctx context.Context) ([]rules.Totals, error)
}

var _ paymentapi.StrictServerInterface = (*Server)(nil)

// GetPayment shows an order's payment.
func (s *Server) GetPayment(ctx context.Context, r paymentapi.GetPaymentRequestObject) (paymentapi.GetPaymentResponseObject, error) {
	p, err := s.Payments.Do(ctx, r.OrderID)
	if err != nil {
		return nil, err
	}
	// Somebody else's payment is none: that it exists is not the caller's business.
	if p == nil || !httpapi.CallerFrom(ctx).Owns(p.CustomerID) {
		return nil, httpapi.NotFound("there is no payment of order %s", r.OrderID)
	}
	return paymentapi.GetPayment200JSONResponse(body(*p)), nil
}

// GetPaymentTotals shows the books.
func (s *Server) GetPaymentTotals(ctx context.Context, _ paymentapi.GetPaymentTotalsRequestObject) (paymentapi.GetPaymentTotalsResponseObject, error) {
	own, err := store.Totals(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	answer := paymentapi.GetPaymentTotals200JSONResponse{Currencies: totals(own)}
	if s.Ledger != nil {
		ledger, err := s.Ledger(ctx)
		if err != nil {
			return nil, err
		}
		provider := totals(ledger)
		answer.Provider = &provider
	}
	return answer, nil
}

func totals(list []rules.Totals) []paymentapi.CurrencyTotals {
	out := make([]paymentapi.CurrencyTotals, len(list))
	for i, t := range list {
		out[i] = paymentapi.CurrencyTotals{
			Currency: t.Currency, Charged: t.Charged, Refunded: t.Refunded,
			Charges: t.Charges, Refunds: t.Refunds, Declines: t.Declines,
		}
	}
	return out
}

func body(p rules.Payment) paymentapi.Payment {
	b := paymentapi.Payment{
		OrderID: p.OrderID, CustomerID: p.CustomerID, PaymentID: optional(p.ID), State: paymentapi.PaymentState(p.State),
		Amount:            paymentapi.Money(p.Amount),
		Refunded:          paymentapi.Money{Amount: p.Refunded, Currency: p.Amount.Currency},
		ProviderReference: optional(p.Reference), RefundReference: optional(p.RefundReference),
		CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if p.Failure.Code != "" {
		b.Failure = &paymentapi.Failure{Code: p.Failure.Code, Detail: optional(p.Failure.Detail)}
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
