package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/orderflow/orderflow/tools/internal/bench"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// Bounds of a benchmark.
const (
	maxLoads    = 16
	maxInFlight = 4096
	maxRate     = 20000
	maxWindow   = 10 * time.Minute
)

// benchCmd measures a system of its own, which goes when it is over.
type benchCmd struct {
	stackFlags `embed:""`
	Bin        string        `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	InFlight   []int         `help:"Closed loops: how many orders are in flight at once, 1 to 4096 each." default:"64,256,1024"`
	Rate       []float64     `help:"Open loops: how many orders a second are due, up to 20000 each." default:"20,300"`
	Duration   time.Duration `help:"How long each load is measured, 1s to 10m." default:"20s"`
	Warmup     time.Duration `help:"How long each load runs before that, up to 10m." default:"10s"`
	Seed       uint64        `help:"Seed of the orders; 0 draws one."`
	Set        []string      `help:"A setting for every service, or with 'service:' in front for one." placeholder:"[SERVICE:]NAME=VALUE" sep:"none"`
	JSON       string        `name:"json" help:"File to write everything to as JSON." type:"path" placeholder:"FILE"`
	SVG        string        `name:"svg" help:"File to plot to: throughput against orders in flight, and latency against rate." type:"path" placeholder:"FILE"`
}

// Help is what --help says besides the flags.
func (benchCmd) Help() string {
	return `Orders go in by POST /v1/orders, one of ten with a payment that is declined, and have ended when order.confirmed or
order.cancelled is read from Kafka. After each load the books are audited; where they do not balance, there are no figures.
'--in-flight=0' or '--rate=0' leaves one kind of load out. docs/PERFORMANCE.md says what is measured and how.`
}

func (b benchCmd) loads() ([]bench.Load, error) {
	var loads []bench.Load
	var errs []error
	for _, n := range b.InFlight {
		if n == 0 {
			continue
		}
		if n < 1 || n > maxInFlight {
			errs = append(errs, fmt.Errorf("--in-flight is %d, must be from 1 to %d", n, maxInFlight))
		}
		loads = append(loads, bench.Load{InFlight: n})
	}
	for _, r := range b.Rate {
		if r == 0 {
			continue
		}
		if !(r > 0 && r <= maxRate) { // not a number either
			errs = append(errs, fmt.Errorf("--rate is %g, must be more than 0 and at most %d", r, maxRate))
		}
		loads = append(loads, bench.Load{Rate: r})
	}
	if len(loads) == 0 || len(loads) > maxLoads {
		errs = append(errs, fmt.Errorf("--in-flight and --rate are %d loads, must be from 1 to %d", len(loads), maxLoads))
	}
	if b.Duration < time.Second || b.Duration > maxWindow {
		errs = append(errs, fmt.Errorf("--duration is %s, must be from 1s to %s", b.Duration, maxWindow))
	}
	if b.Warmup < 0 || b.Warmup > maxWindow {
		errs = append(errs, fmt.Errorf("--warmup is %s, must be from 0s to %s", b.Warmup, maxWindow))
	}
	return loads, errors.Join(errs...)
}

// Run prints the figures, and fails when there are none of some load.
func (b benchCmd) Run(ctx context.Context, c console) error {
	loads, err := b.loads()
	if err != nil {
		return err
	}
	env, err := settings(b.Set)
	if err != nil {
		return err
	}
	if b.Seed == 0 {
		b.Seed = rand.Uint64()
	}
	dir, err := b.tempDir()
	if err != nil {
		return err
	}
	report, err := b.measure(ctx, c, dir, loads, env)
	if ctx.Err() != nil {
		// Whatever failed, failed because of this.
		return errors.Join(errors.New("bench: interrupted"), os.RemoveAll(dir))
	}
	if err = errors.Join(err, removeDir(c, dir, err != nil || !report.OK)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	report.Print(c.out, terminal.For(c.out))
	if err := b.write(report); err != nil {
		return err
	}
	if !report.OK {
		return exitError(1)
	}
	return nil
}

func (b benchCmd) measure(ctx context.Context, c console, dir string, loads []bench.Load, env map[string][]string) (bench.Report, error) {
	opts, err := b.options(b.Bin, dir, env)
	if err != nil {
		return bench.Report{}, err
	}
	if opts.Native != nil {
		opts.Native.JVM = bench.KafkaJVM()
	}
	return bench.Run(ctx, bench.Config{
		Stack: opts, Groups: ourGroups(), Loads: loads, Warmup: b.Warmup, Window: b.Duration, Seed: b.Seed,
		Progress: func(format string, args ...any) { say(c.err, "… "+format+"\n", args...) },
	})
}

// write writes the files that were asked for.
func (b benchCmd) write(report bench.Report) error {
	if b.JSON != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.JSON, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	if b.SVG != "" {
		return os.WriteFile(b.SVG, []byte(report.SVG()), 0o600)
	}
	return nil
}
