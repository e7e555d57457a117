package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"unicode/utf8"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/jsoncall"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
)

// Config is how to reach the provider.
type Config = jsoncall.Config

// Provider implements provider.Provider. It is safe for concurrent use.
type Provider struct{ caller *jsoncall.Caller }

var _ provider.Provider = (*Provider)(nil)

// New returns a provider.
func New(cfg Config, deps jsoncall.Deps) (*Provider, error) {
	caller, err := jsoncall.New("payment provider", cfg, deps, func(r *jsoncall.Refusal) bool { return isDecline(r) || isCalledOff(r) })
	return &Provider{caller: caller}, err
}

// Close lets go of idle connections.
func (p *Provider) Close() { p.caller.Close() }

const (
	codeCalledOff = "called_off"
	// codeUnknown stands for a decline whose code does not have the form that ours have.
	codeUnknown  = "card_declined"
	maxReference = 128
)

var codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func isDecline(r *jsoncall.Refusal) bool { return r.Status == http.StatusPaymentRequired }

func isCalledOff(r *jsoncall.Refusal) bool {
	return r.Status == http.StatusConflict && r.Code == codeCalledOff
}

type chargeBody struct {
	events.Money
	Method string `json:"payment_method"`
}

// Charge implements provider.Provider.
func (p *Provider) Charge(ctx context.Context, r provider.ChargeRequest) (provider.Charge, error) {
	var made struct {
		Reference string `json:"reference"`
	}
	status, err := p.caller.Post(ctx, "/charges", r.Key, chargeBody{r.Amount, r.Method}, &made)
	var no *jsoncall.Refusal
	switch {
	case errors.As(err, &no) && isDecline(no):
		code := no.Code
		if !codePattern.MatchString(code) {
			code = codeUnknown
		}
		return provider.Charge{}, &provider.Declined{Code: code, Detail: no.Detail}
	case errors.As(err, &no) && isCalledOff(no):
		return provider.Charge{}, fmt.Errorf("payment provider: %w", provider.ErrCalledOff)
	case err != nil:
		return provider.Charge{}, err
	case status != http.StatusCreated && status != http.StatusOK, !usable(made.Reference):
		return provider.Charge{}, fault.Transientf("payment provider: %d without a reference of 1 to %d characters", status, maxReference)
	}
	return provider.Charge{Reference: made.Reference}, nil
}

// Refund implements provider.Provider.
func (p *Provider) Refund(ctx context.Context, r provider.RefundRequest) (provider.Refund, error) {
	var made struct {
		Amount    *int64 `json:"amount"`
		Currency  string `json:"currency"`
		Reference string `json:"reference"`
	}
	status, err := p.caller.Post(ctx, "/charges/"+url.PathEscape(r.ChargeKey)+"/refund", r.Key, struct{}{}, &made)
	switch {
	case err != nil:
		return provider.Refund{}, err
	case status == http.StatusNoContent:
		return provider.Refund{}, nil
	case made.Amount == nil || *made.Amount < 0 || len(made.Currency) != 3 || !usable(made.Reference):
		return provider.Refund{}, fault.Transientf("payment provider: %d without the amount, currency and reference of the refund", status)
	}
	return provider.Refund{
		Found: true, Amount: events.Money{Amount: *made.Amount, Currency: made.Currency}, Reference: made.Reference,
	}, nil
}

func usable(reference string) bool {
	return reference != "" && utf8.RuneCountInString(reference) <= maxReference
}
