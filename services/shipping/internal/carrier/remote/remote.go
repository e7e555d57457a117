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
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// Config is how to reach the carrier.
type Config = jsoncall.Config

// Carrier implements carrier.Carrier. It is safe for concurrent use.
type Carrier struct{ caller *jsoncall.Caller }

var _ carrier.Carrier = (*Carrier)(nil)

// New returns a carrier.
func New(cfg Config, deps jsoncall.Deps) (*Carrier, error) {
	caller, err := jsoncall.New("carrier", cfg, deps, func(r *jsoncall.Refusal) bool { return isRefused(r) || isCalledOff(r) })
	return &Carrier{caller: caller}, err
}

// Close lets go of idle connections.
func (c *Carrier) Close() { c.caller.Close() }

const (
	codeCalledOff = "called_off"
	maxName       = 64
)

var codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// isRefused wants a code: without one it is a request that the carrier does not understand.
func isRefused(r *jsoncall.Refusal) bool {
	return r.Status == http.StatusUnprocessableEntity && r.Code != ""
}

func isCalledOff(r *jsoncall.Refusal) bool {
	return r.Status == http.StatusConflict && r.Code == codeCalledOff
}

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
	status, err := c.caller.Post(ctx, "/parcels", r.Key, arrangeBody{r.Address, r.Lines}, &made)
	var no *jsoncall.Refusal
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
	status, err := c.caller.Post(ctx, "/parcels/"+url.PathEscape(r.ArrangeKey)+"/cancel", r.Key, struct{}{}, &was)
	if err != nil || status == http.StatusNoContent {
		return carrier.Cancellation{}, err
	}
	return carrier.Cancellation{Found: true, Carrier: was.Carrier, TrackingNumber: was.TrackingNumber}, was.check(status)
}
