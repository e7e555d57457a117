package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// breakInFlight is how many orders are under way while the servers break in.
const breakInFlight = 256

// subject is what loads are put on.
type subject struct {
	// name is empty for Orderflow.
	name  string
	shop  *shop
	meter *meter
	// quiet returns when nothing is under way, but for what waits for services that stand still.
	quiet func(ctx context.Context, still []string) error
	// books holds everything against what has become of the orders so far, t's of the last load.
	books func(ctx context.Context, t *tally) (says, wrong []string, err error)
	// died names what went down by itself.
	died func() []string
}

// measure puts the loads on the subject, one after the other.
func (s *subject) measure(ctx context.Context, cfg Config, loads []Load, report *Report) error {
	for _, l := range loads {
		run, err := s.run(ctx, cfg, l)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", run.title(), err)
		}
		report.OK = report.OK && len(run.Wrong) == 0
		report.Runs = append(report.Runs, run)
	}
	return nil
}

// breakIn has orders come in for so long, and none of them measured.
func (s *subject) breakIn(ctx context.Context, cfg Config) error {
	if cfg.BreakIn <= 0 {
		return nil
	}
	cfg.Progress("%s of orders that are not measured, for the servers to break in", cfg.BreakIn)
	start := time.Now()
	t := &tally{from: start, to: start.Add(cfg.BreakIn)}
	s.shop.closed(ctx, t, breakInFlight)
	if wrong := append(t.wrong(), s.died()...); len(wrong) > 0 && ctx.Err() == nil {
		return fmt.Errorf("breaking in: %s", strings.Join(wrong, "; "))
	}
	return ctx.Err()
}

// run puts one load on the subject.
func (s *subject) run(ctx context.Context, cfg Config, l Load) (Result, error) {
	r := Result{Of: s.name, Load: l}
	if err := s.quiet(ctx, nil); err != nil {
		return r, err
	}
	warmup, window := l.bounds(cfg)
	cfg.Progress("%s: %s of warm-up and %s", r.title(), warmup, window)
	runtime.GC() // what the last audit read
	t, u := &tally{}, use{}
	put := func(still []string) (err error) {
		u, err = s.put(ctx, l, t, warmup, window, still)
		return err
	}
	var err error
	if l.SagaAlone {
		if err = s.shop.still(listeners, func() error { return put(listeners) }); err == nil {
			cfg.Progress("%s: the others go on, and catch up", r.title())
			err = s.quiet(ctx, nil)
		}
	} else {
		err = put(nil)
	}
	died := s.died()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.Wrong = append(t.wrong(), died...)
	// A process that died is why nothing can be read of it.
	if err != nil && len(died) == 0 {
		return r, err
	}
	cfg.Progress("%s: %d orders; reading the books", r.title(), t.confirmed+t.cancelled)
	said, wrong, err := s.books(ctx, t)
	if err != nil && len(r.Wrong) == 0 {
		return r, err
	}
	if r.Wrong = append(r.Wrong, wrong...); len(r.Wrong) == 0 {
		r.Figures = figures(t, u.before, u.after, u.memory)
		r.Figures.SettleSeconds, r.Figures.Books = u.settled.Seconds(), said
	}
	return r, nil
}

// use is what a load used, from quiet to quiet.
type use struct {
	before, after reading
	memory        map[string]int64
	// settled is how long it took after the window.
	settled time.Duration
}

// put places the orders of a load and counts until all have ended and nothing is under way, while some services stand still.
func (s *subject) put(ctx context.Context, l Load, t *tally, warmup, window time.Duration, still []string) (u use, err error) {
	if u.before, err = s.meter.read(ctx); err != nil {
		return u, err
	}
	peaks := s.meter.watch()
	start := time.Now()
	t.from, t.to = start.Add(warmup), start.Add(warmup+window)
	switch {
	case l.InFlight > 0:
		s.shop.closed(ctx, t, l.InFlight)
	case l.Accept > 0:
		err = s.shop.accept(ctx, t, l.Accept)
	default:
		s.shop.open(ctx, t, start, l.Rate)
	}
	quiet := s.quiet(ctx, still)
	u.settled = max(0, time.Since(t.to)) // every place may have been empty before
	memory, failed := peaks()
	u.memory = memory
	after, unread := s.meter.read(ctx)
	u.after = after
	return u, errors.Join(err, quiet, failed, unread)
}

// figures divides what a load used by its orders.
func figures(t *tally, before, after reading, memory map[string]int64) *Figures {
	orders := float64(t.confirmed + t.cancelled)
	f := &Figures{
		PerSecond: float64(t.ended) / t.to.Sub(t.from).Seconds(), EndToEnd: latencyOf(t.endToEnd), Accept: latencyOf(t.accept),
		Refused: t.refused, Errors: t.errors, Orders: t.confirmed + t.cancelled, Confirmed: t.confirmed, Cancelled: t.cancelled,
		TopicBytes: float64(after.topics-before.topics) / orders,
	}
	if after.wal != 0 {
		wal := float64(after.wal-before.wal) / orders
		f.WALBytes = &wal
	}
	if t.firstError != nil {
		f.FirstError = t.firstError.Error()
	}
	for _, name := range slices.Sorted(maps.Keys(after.trees)) {
		c := Component{
			Name: name, CPUMillis: milliseconds(after.trees[name].cpu-before.trees[name].cpu) / orders,
			PeakMiB: float64(memory[name]) / (1 << 20),
		}
		f.CPUMillis += c.CPUMillis
		f.Components = append(f.Components, c)
	}
	// Their times are counted in steps, so it may come out a little below nothing.
	if cores := after.at.Sub(before.at).Seconds() * float64(runtime.NumCPU()); cores > 0 {
		f.OthersPercent = max(0, 100*((after.busy-before.busy).Seconds()-f.CPUMillis*orders/1000)/cores)
	}
	return f
}
