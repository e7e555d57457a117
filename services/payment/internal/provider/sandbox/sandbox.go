// Package sandbox is a payment provider in this process, for tests and for the stack on one machine.
//
// It plays the outside: its books are tables of their own, written with commits of their own, so that what it charged
// stays charged when this service dies before it has written down the answer. What it does with a charge is up to the
// payment method's token (see the Token constants); any other token is declined.
package sandbox

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
)

// Tokens that the sandbox knows.
const (
	TokenApproved          = "tok_approved"
	TokenDeclined          = "tok_declined"
	TokenInsufficientFunds = "tok_insufficient_funds"
	// TokenSlow is charged after Config.Slow.
	TokenSlow = "tok_slow"
	// TokenTimeout never answers within Config.Timeout and charges nothing.
	TokenTimeout = "tok_timeout"
	// TokenFailTwice fails twice a key, then charges.
	TokenFailTwice = "tok_fail_twice"
	// TokenAmbiguous charges at once, but the first answer is lost.
	TokenAmbiguous = "tok_ambiguous"
)

// failures is how often TokenFailTwice fails.
const failures = 2

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the sandbox's books.
func Migrations() fs.FS { return database.Folder(files) }

// Config is how the sandbox behaves.
type Config struct {
	// Slow is how long TokenSlow takes.
	Slow time.Duration
	// Timeout is how long a caller waits for an answer.
	Timeout time.Duration
}

// Sandbox implements provider.Provider.
type Sandbox struct {
	cfg   Config
	db    *database.DB
	books *database.Changes[entry]
	now   func() time.Time
	newID func() string
}

var _ provider.Provider = (*Sandbox)(nil)

// New returns a sandbox whose books are in db.
func New(cfg Config, db *database.DB, now func() time.Time, newID func() string) *Sandbox {
	return &Sandbox{cfg: cfg, db: db, books: database.NewChanges(db, charges), now: now, newID: newID}
}

// Charge implements provider.Provider. A key that is used for another charge is a permanent error.
func (s *Sandbox) Charge(ctx context.Context, r provider.ChargeRequest) (provider.Charge, error) {
	var delay time.Duration
	switch r.Method {
	case TokenSlow:
		delay = s.cfg.Slow
	case TokenTimeout:
		delay = s.cfg.Timeout + time.Hour
	}
	if delay > 0 {
		// The caller's patience is for what the sandbox plays. Its books share a database with the service, and waiting
		// for that under load is no silence of the provider.
		patience, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		if err := wait(patience, delay); err != nil {
			return provider.Charge{}, err
		}
	}
	e, err := s.change(ctx, r.Key, func(e *entry) error {
		if e.state == calledOff || e.state == refunded {
			return nil
		}
		if e.attempts > 0 && (e.method != r.Method || e.amount != r.Amount) {
			return fault.Permanentf("key %s was used for another charge", r.Key)
		}
		e.method, e.amount, e.attempts = r.Method, r.Amount, e.attempts+1
		if e.state == undecided {
			e.state, e.code = decide(r.Method, e.attempts)
			if e.state == charged {
				e.reference = "ch_" + s.newID()
			}
		}
		return nil
	})
	if err != nil {
		return provider.Charge{}, fmt.Errorf("sandbox charge: %w", err)
	}
	switch e.state {
	case undecided:
		return provider.Charge{}, fault.Transientf("sandbox charge: failed, attempt %d", e.attempts)
	case declined:
		return provider.Charge{}, &provider.Declined{Code: e.code, Detail: declines[e.code]}
	case calledOff, refunded:
		return provider.Charge{}, fmt.Errorf("sandbox charge: %w", provider.ErrCalledOff)
	}
	if r.Method == TokenAmbiguous && e.attempts == 1 {
		return provider.Charge{}, fault.Transientf("sandbox charge: the answer was lost")
	}
	return provider.Charge{Reference: e.reference}, nil
}

// Refund implements provider.Provider.
func (s *Sandbox) Refund(ctx context.Context, r provider.RefundRequest) (provider.Refund, error) {
	e, err := s.change(ctx, r.ChargeKey, func(e *entry) error {
		switch e.state {
		case charged:
			e.state, e.refundReference = refunded, "re_"+s.newID()
		case undecided:
			e.state = calledOff
		}
		return nil
	})
	if err != nil {
		return provider.Refund{}, fmt.Errorf("sandbox refund: %w", err)
	}
	if e.state != refunded {
		return provider.Refund{}, nil
	}
	return provider.Refund{Found: true, Amount: e.amount, Reference: e.refundReference}, nil
}

// Totals sums up the sandbox's books by currency.
func (s *Sandbox) Totals(ctx context.Context) ([]rules.Totals, error) { return totals(ctx, s.db) }

// declines are the reasons that the sandbox gives.
var declines = map[string]string{
	"card_declined":        "the card was declined",
	"insufficient_funds":   "the card has not enough funds",
	provider.InvalidMethod: "no such payment method",
}

// decide is what becomes of a charge in its n-th attempt.
func decide(method string, n int) (state, code string) {
	switch method {
	case TokenApproved, TokenSlow, TokenAmbiguous:
		return charged, ""
	case TokenFailTwice:
		if n <= failures {
			return undecided, ""
		}
		return charged, ""
	case TokenDeclined:
		return declined, "card_declined"
	case TokenInsufficientFunds:
		return declined, "insufficient_funds"
	default:
		return declined, provider.InvalidMethod
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
		return fmt.Errorf("sandbox charge: no answer: %w", ctx.Err())
	}
}
