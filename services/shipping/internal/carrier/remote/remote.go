package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// Config is how to reach the carrier.
type Config struct {
	// URL is the API's base.
	URL string
	// Token is the secret that the carrier knows this service by; empty sends none.
	Token string
	// Timeout bounds one attempt.
	Timeout time.Duration
	// Attempts is how often one call is tried, at least once.
	Attempts int
	// Backoff is the wait before the second attempt; each further one is twice as long.
	Backoff time.Duration
}

// Carrier implements carrier.Carrier. It is safe for concurrent use.
type Carrier struct{ caller *caller }

var _ carrier.Carrier = (*Carrier)(nil)

// New returns a carrier; jitter returns numbers in [0, 1).
func New(cfg Config, jitter func() float64) *Carrier {
	return &Carrier{caller: newCaller("carrier", cfg, jitter, func(r *refusal) bool { return isRefused(r) || isCalledOff(r) })}
}

// Close lets go of idle connections.
func (c *Carrier) Close() { c.caller.client.CloseIdleConnections() }

const (
	codeCalledOff = "called_off"
	maxName       = 64
)

var codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// isRefused wants a code: without one it is a request that the carrier does not understand.
func isRefused(r *refusal) bool { return r.status == http.StatusUnprocessableEntity && r.Code != "" }

func isCalledOff(r *refusal) bool { return r.status == http.StatusConflict && r.Code == codeCalledOff }

// parcel is what the carrier says of one.
type parcel struct {
	Carrier        string `json:"carrier"`
	TrackingNumber string `json:"tracking_number"`
}

func (p parcel) check(status int) error {
	if !usable(p.Carrier) || !usable(p.TrackingNumber) {
		return fault.Transientf("carrier: %d without carrier and tracking_number of 1 to %d characters", status, maxName)
	}
	return nil
}

func usable(name string) bool { return name != "" && utf8.RuneCountInString(name) <= maxName }

type arrangeBody struct {
	Address events.Address           `json:"address"`
	Lines   events.List[events.Line] `json:"lines"`
}

// Arrange implements carrier.Carrier.
func (c *Carrier) Arrange(ctx context.Context, r carrier.ArrangeRequest) (carrier.Parcel, error) {
	var made parcel
	status, err := c.caller.post(ctx, "/parcels", r.Key, arrangeBody{r.Address, r.Lines}, &made)
	var no *refusal
	switch {
	case errors.As(err, &no) && isRefused(no):
		code := no.Code
		if !codePattern.MatchString(code) {
			code = events.ReasonShippingRefused
		}
		return carrier.Parcel{}, &carrier.Refused{Code: code, Detail: no.Detail}
	case errors.As(err, &no) && isCalledOff(no):
		return carrier.Parcel{}, fmt.Errorf("carrier: %w", carrier.ErrCalledOff)
	case err != nil:
		return carrier.Parcel{}, err
	}
	return carrier.Parcel(made), made.check(status)
}

// Cancel implements carrier.Carrier.
func (c *Carrier) Cancel(ctx context.Context, r carrier.CancelRequest) (carrier.Cancellation, error) {
	var was parcel
	status, err := c.caller.post(ctx, "/parcels/"+url.PathEscape(r.ArrangeKey)+"/cancel", r.Key, struct{}{}, &was)
	if err != nil || status == http.StatusNoContent {
		return carrier.Cancellation{}, err
	}
	return carrier.Cancellation{Found: true, Carrier: was.Carrier, TrackingNumber: was.TrackingNumber}, was.check(status)
}
