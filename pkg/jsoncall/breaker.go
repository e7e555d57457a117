package jsoncall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/fault"
)

// What a Config has that does not say.
const (
	defaultFailures = 5
	defaultCooldown = 5 * time.Second
)

// breaker refuses calls while the other side answers nobody; package doc.go says when that is.
type breaker struct {
	who      string
	failures int
	cooldown time.Duration
	now      func() time.Time
	logger   *slog.Logger

	mu sync.Mutex
	// failed are the keys of the calls that failed since the last answer, at most as many as open it.
	failed map[string]struct{}
	open   bool
	// probe is the instant from which the next call goes through, while open.
	probe time.Time
}

func newBreaker(who string, cfg Config, deps Deps) (*breaker, error) {
	b := &breaker{
		who: who, failures: cfg.BreakerFailures, cooldown: cfg.BreakerCooldown, now: deps.Now, logger: deps.Logger,
		failed: map[string]struct{}{},
	}
	if b.failures <= 0 {
		b.failures = defaultFailures
	}
	if b.cooldown <= 0 {
		b.cooldown = defaultCooldown
	}
	err := deps.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "jsoncall_breaker_open", ConstLabels: prometheus.Labels{"side": who},
		Help: "1 while the circuit breaker is open: calls to this side are refused, but for one in each cool-down.",
	}, b.state))
	if err != nil {
		return nil, fmt.Errorf("%s: metrics: %w", who, err)
	}
	return b, nil
}

func (b *breaker) state() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return 1
	}
	return 0
}

// admit refuses a call, or lets it through, which settle must then hear of. No call has to end for the next probe: one
// that is cut off by our own stop would keep the breaker open.
func (b *breaker) admit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil
	}
	now := b.now()
	if now.Before(b.probe) {
		return fault.Unavailablef("%s: not asked, its circuit breaker is open", b.who)
	}
	b.probe = now.Add(b.cooldown)
	return nil
}

// settle hears how a call under key ended, and returns what its error means now: while the breaker is open, also for
// calls that began before, a failure says nothing of what was asked.
func (b *breaker) settle(ctx context.Context, key string, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil, errors.As(err, new(*Refusal)):
		clear(b.failed)
		if b.open {
			b.open = false
			b.logger.InfoContext(ctx, "circuit breaker closes", "side", b.who)
		}
		return err
	case ctx.Err() != nil, fault.KindOf(err) == fault.Permanent:
		return err // it is of our own making
	}
	if !b.open {
		b.failed[key] = struct{}{}
		if len(b.failed) < b.failures {
			return err
		}
		b.open, b.probe = true, b.now().Add(b.cooldown)
		b.logger.WarnContext(ctx, "circuit breaker opens", "side", b.who, "cooldown", b.cooldown, "error", err)
	}
	return fault.AsUnavailable(err)
}
