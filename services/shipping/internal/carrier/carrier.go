// Package carrier is the port to whoever moves the parcels.
//
// An implementation promises, and package carriertest checks:
//
//   - a parcel is arranged at most once a key, however often it is asked for and whatever became of the answers; asking
//     again answers what the first did, a refusal too;
//   - a cancellation calls back what is arranged under a key, once, and answers the same when asked again;
//   - a cancellation that finds nothing arranged calls the key off: an arrangement under it is refused for ever after.
//     So is one under a key that was cancelled;
//   - an error that is none of those below is marked by package fault and leaves the outcome unknown: ask again.
//
// A carrier that is away is transient, never unavailable: the messages of other orders go on, and a parcel that cannot
// be arranged in time is the order's problem, not the service's.
package carrier

import (
	"context"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/api/events"
)

// Carrier arranges and cancels parcels.
type Carrier interface {
	// Arrange returns a *Refused error when the carrier will not, and ErrCalledOff after Cancel of the same key.
	Arrange(ctx context.Context, r ArrangeRequest) (Parcel, error)
	// Cancel calls back what is under r.ArrangeKey, or calls that key off.
	Cancel(ctx context.Context, r CancelRequest) (Cancellation, error)
}

// ArrangeRequest asks for a parcel to be taken on.
type ArrangeRequest struct {
	// Key makes the parcel one: 1 to 100 letters, digits, - and _.
	Key     string
	Address events.Address
	Lines   []events.Line
}

// Parcel is a parcel that was taken on.
type Parcel struct {
	// Carrier is its name, 1 to 64 characters.
	Carrier string
	// TrackingNumber is the carrier's name for the parcel, 1 to 64 characters.
	TrackingNumber string
}

// CancelRequest asks for a parcel to be called back.
type CancelRequest struct {
	// Key makes the cancellation one.
	Key string
	// ArrangeKey is the key of the parcel.
	ArrangeKey string
}

// Cancellation is the answer to a cancellation.
type Cancellation struct {
	// Found is false when nothing had been arranged; then the other fields are empty.
	Found          bool
	Carrier        string
	TrackingNumber string
}

// ErrCalledOff: a cancellation came first.
var ErrCalledOff = errors.New("the parcel was called off before")

// Refused is a parcel that will not be taken on.
type Refused struct {
	// Code is for programs, in the form of events.Reason.
	Code string
	// Detail is for people.
	Detail string
}

// Error is the code and the detail.
func (r *Refused) Error() string { return fmt.Sprintf("refused (%s): %s", r.Code, r.Detail) }

// RegionNotServed is the code of a refusal because of where the parcel should go.
const RegionNotServed = "region_not_served"
