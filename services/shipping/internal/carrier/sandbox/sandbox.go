// Package sandbox is a carrier in this process, for tests and for the stack on one machine.
//
// It plays the outside: its books are a table of its own, written with commits of its own, so that what it arranged
// stays arranged when this service dies before it has written down the answer. What it does with a parcel is up to
// where it goes (see the City and Country constants); anywhere else is served at once.
package sandbox

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// Name is the carrier's name.
const Name = "sandbox"

// Places that the sandbox treats in a way of its own.
const (
	// CountryAntarctica and CountryNorthKorea are not served.
	CountryAntarctica = "AQ"
	CountryNorthKorea = "KP"
	// CitySlow is arranged after Config.Slow.
	CitySlow = "Slowtown"
	// CityFailing always fails.
	CityFailing = "Failville"
	// CityFlaky fails twice a key, then is arranged.
	CityFlaky = "Flakytown"
	// CityLost is arranged at once, but the first answer is lost.
	CityLost = "Lostwithiel"
)

// failures is how often CityFlaky fails.
const failures = 2

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the sandbox's books.
func Migrations() fs.FS { return database.Folder(files) }

// Config is how the sandbox behaves.
type Config struct {
	// Slow is how long CitySlow takes.
	Slow time.Duration
	// Timeout is how long a caller waits for an answer.
	Timeout time.Duration
}

// Sandbox implements carrier.Carrier.
type Sandbox struct {
	cfg   Config
	db    *database.DB
	books *database.Changes[entry]
	now   func() time.Time
}

var _ carrier.Carrier = (*Sandbox)(nil)

// New returns a sandbox whose books are in db.
func New(cfg Config, db *database.DB, now func() time.Time) *Sandbox {
	return &Sandbox{cfg: cfg, db: db, books: database.NewChanges(db, parcels), now: now}
}

// Arrange implements carrier.Carrier. A key that is used for another parcel is a permanent error.
func (s *Sandbox) Arrange(ctx context.Context, r carrier.ArrangeRequest) (carrier.Parcel, error) {
	if r.Address.City == CitySlow {
		// The caller's patience is for what the sandbox plays. Its books share a database with the service, and waiting
		// for that under load is no silence of the carrier.
		patience, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		if err := wait(patience, s.cfg.Slow); err != nil {
			return carrier.Parcel{}, err
		}
	}
	mark, err := fingerprint(r)
	if err != nil {
		return carrier.Parcel{}, err
	}
	e, err := s.change(ctx, r.Key, func(e *entry) error {
		if e.state == calledOff || e.state == cancelled {
			return nil
		}
		if e.attempts > 0 && e.fingerprint != mark {
			return fault.Permanentf("key %s was used for another parcel", r.Key)
		}
		e.fingerprint, e.attempts = mark, e.attempts+1
		if e.state == undecided {
			e.state, e.code = decide(r, e.attempts)
		}
		return nil
	})
	if err != nil {
		return carrier.Parcel{}, fmt.Errorf("sandbox arrange: %w", err)
	}
	switch e.state {
	case undecided:
		return carrier.Parcel{}, fault.Transientf("sandbox arrange: failed, attempt %d", e.attempts)
	case refused:
		return carrier.Parcel{}, &carrier.Refused{Code: e.code, Detail: "the carrier does not deliver to " + r.Address.Country}
	case calledOff, cancelled:
		return carrier.Parcel{}, fmt.Errorf("sandbox arrange: %w", carrier.ErrCalledOff)
	}
	if r.Address.City == CityLost && e.attempts == 1 {
		return carrier.Parcel{}, fault.Transientf("sandbox arrange: the answer was lost")
	}
	return carrier.Parcel{Carrier: Name, TrackingNumber: e.trackingNumber}, nil
}

// Cancel implements carrier.Carrier.
func (s *Sandbox) Cancel(ctx context.Context, r carrier.CancelRequest) (carrier.Cancellation, error) {
	e, err := s.change(ctx, r.ArrangeKey, func(e *entry) error {
		switch e.state {
		case arranged:
			e.state = cancelled
		case undecided:
			e.state = calledOff
		}
		return nil
	})
	if err != nil {
		return carrier.Cancellation{}, fmt.Errorf("sandbox cancel: %w", err)
	}
	if e.state != cancelled {
		return carrier.Cancellation{}, nil
	}
	return carrier.Cancellation{Found: true, Carrier: Name, TrackingNumber: e.trackingNumber}, nil
}

// decide is what becomes of a parcel in its n-th attempt.
func decide(r carrier.ArrangeRequest, n int) (state, code string) {
	switch {
	case r.Address.Country == CountryAntarctica, r.Address.Country == CountryNorthKorea:
		return refused, carrier.RegionNotServed
	case r.Address.City == CityFailing, r.Address.City == CityFlaky && n <= failures:
		return undecided, ""
	default:
		return arranged, ""
	}
}

// wait waits for d, or less long than that and then reports that the caller has given up.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sandbox arrange: no answer: %w", ctx.Err())
	}
}
