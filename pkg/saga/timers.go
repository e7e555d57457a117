package saga

import (
	"context"
	"log/slog"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
)

// TimersConfig sets how deadlines are looked for. Zero values mean the defaults.
type TimersConfig struct {
	Interval time.Duration // between rounds, default 1 s
	Batch    int           // sagas read at a time, default 100
	Now      func() time.Time
	Logger   *slog.Logger
	// Settled, if set, is asked before each round up to when deadlines count: an instant not after now, such that whatever
	// was under way then, commands and answers, has been handled or is not moving. The zero time means none. So a deadline
	// does not pass because somebody was behind; see the package's documentation.
	Settled func(ctx context.Context, now time.Time) (time.Time, error)
	// Waiting, if set, is asked which of these sagas have messages that were read and wait to be handled. Their deadlines do
	// not count for as long: the answer may be among them.
	Waiting func(ctx context.Context, ids ...string) (map[string]bool, error)
}

// Timers finds sagas whose deadline has passed and hands each to a callback. Every replica may run its own.
type Timers struct {
	db   *database.DB
	fire func(ctx context.Context, id string, at time.Time) error
	cfg  TimersConfig
	// failing are the sagas whose callback failed in the last round, so that each is logged once and not every round.
	failing map[string]bool
}

// maxFailing bounds Timers.failing; beyond it a saga may be logged again.
const maxFailing = 1000

// NewTimers returns timers on db's sagas. fire must load the saga under lock and decide again with at, the instant up to
// which deadlines count (State.Due): it is also called when another replica was quicker.
func NewTimers(db *database.DB, fire func(ctx context.Context, id string, at time.Time) error, cfg TimersConfig) *Timers {
	if cfg.Interval <= 0 {
		cfg.Interval = time.Second
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 100
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Timers{db: db, fire: fire, cfg: cfg}
}

// Run looks for due sagas until ctx ends, and then returns nil. It is called once.
func (t *Timers) Run(ctx context.Context) error {
	tick := time.NewTicker(t.cfg.Interval)
	defer tick.Stop()
	down := false
	for ctx.Err() == nil {
		err := t.round(ctx)
		switch {
		case err != nil && !down && ctx.Err() == nil:
			t.cfg.Logger.WarnContext(ctx, "saga deadlines cannot be looked for; trying on", "error", err)
		case err == nil && down:
			t.cfg.Logger.InfoContext(ctx, "saga deadlines are looked for again")
		}
		down = err != nil
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// round hands over every saga that is due now, once. It goes through them by their place in the order of deadlines,
// so those that fail hold up no others. Only when the infrastructure is gone does it stop early, with the cause.
func (t *Timers) round(ctx context.Context) error {
	at := t.cfg.Now()
	if t.cfg.Settled != nil {
		var err error
		if at, err = t.cfg.Settled(ctx, at); err != nil || at.IsZero() {
			return err
		}
	}
	failing := map[string]bool{}
	defer func() { t.failing = failing }()
	for after := (DueSaga{}); ; {
		due, err := Due(ctx, t.db, at, after, t.cfg.Batch)
		if err != nil {
			return err
		}
		waiting, err := t.waiting(ctx, due)
		if err != nil {
			return err
		}
		for _, d := range due {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			after = d
			if waiting[d.ID] {
				continue
			}
			err := t.fire(ctx, d.ID, at)
			if fault.KindOf(err) == fault.Unavailable {
				return err
			}
			if err != nil {
				if !t.failing[d.ID] {
					t.cfg.Logger.ErrorContext(ctx, "a saga's deadline could not be handled; trying again each round", "saga", d.ID, "error", err)
				}
				if len(failing) < maxFailing {
					failing[d.ID] = true
				}
			}
		}
		if len(due) < t.cfg.Batch {
			return nil
		}
	}
}

func (t *Timers) waiting(ctx context.Context, due []DueSaga) (map[string]bool, error) {
	if t.cfg.Waiting == nil || len(due) == 0 {
		return map[string]bool{}, nil
	}
	ids := make([]string, len(due))
	for i, d := range due {
		ids[i] = d.ID
	}
	return t.cfg.Waiting(ctx, ids...)
}
