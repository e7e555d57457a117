package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/bench"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// Bounds of a benchmark.
const (
	maxLoads    = 16
	maxInFlight = 4096
	maxRate     = 20000
	maxWindow   = 10 * time.Minute
	// maxAlone bounds a load after which services catch up that stood still.
	maxAlone = 2 * time.Minute
)

// benchCmd measures a system of its own, which goes when it is over.
type benchCmd struct {
	stackFlags  `embed:""`
	Bin         string        `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	InFlight    []int         `help:"Closed loops: how many orders are in flight at once, 1 to 4096 each." default:"64,256,1024"`
	SagaAlone   []int         `help:"Closed loops as --in-flight, while notification and analytics, which no saga waits for, stand still." placeholder:"N,..."`
	Rate        []float64     `help:"Open loops: how many orders a second are due, up to 20000 each." default:"20,300"`
	Accept      []int         `help:"Accepting alone, without waiting for the ends: over how many connections, 1 to 4096 each." placeholder:"N,..."`
	Rivals      []string      `help:"What to hold it against, on the same servers of --stack=native: orchestrator, subscriber, forwarder, or all." placeholder:"RIVAL,..."`
	RivalFlight []int         `name:"rival-in-flight" help:"Closed loops of the orchestrator, as --in-flight; it also gets the --rate." default:"16,64,256"`
	Duration    time.Duration `help:"How long each load is measured, 1s to 10m." default:"20s"`
	Warmup      time.Duration `help:"How long each load runs before that, up to 10m." default:"10s"`
	BreakIn     time.Duration `name:"break-in" help:"How long orders come in before the first load, for Kafka's JVM to compile what it does; up to 10m." default:"1m"`
	Seed        uint64        `help:"Seed of the orders; 0 draws one."`
	Set         []string      `help:"A setting for every service, or with 'service:' in front for one." placeholder:"[SERVICE:]NAME=VALUE" sep:"none"`
	JSON        string        `name:"json" help:"File to write everything to as JSON." type:"path" placeholder:"FILE"`
	SVG         string        `name:"svg" help:"File to plot to: throughput against orders in flight, and latency against rate." type:"path" placeholder:"FILE"`
}

// Help is what --help says besides the flags.
func (benchCmd) Help() string {
	return `Orders go in by POST /v1/orders, one of ten with a payment that is declined, and have ended when order.confirmed or
order.cancelled is read from Kafka. After each load the books are audited; where they do not balance, there are no figures.
'--in-flight=0' or '--rate=0' leaves one kind of load out. '--rivals' measures other people's code on the same servers. docs/PERFORMANCE.md says what is measured and how.`
}

// loads are those of the system, and of the rival that takes orders.
func (b benchCmd) loads() (loads, rival []bench.Load, err error) {
	var errs []error
	numbers := func(flag string, ns []int, load func(n int) bench.Load) (loads []bench.Load) {
		for _, n := range ns {
			if n == 0 {
				continue
			}
			if n < 1 || n > maxInFlight {
				errs = append(errs, fmt.Errorf("--%s is %d, must be from 1 to %d", flag, n, maxInFlight))
			}
			loads = append(loads, load(n))
		}
		return loads
	}
	closed := func(n int) bench.Load { return bench.Load{InFlight: n} }
	loads, rival = numbers("in-flight", b.InFlight, closed), numbers("rival-in-flight", b.RivalFlight, closed)
	loads = append(loads, numbers("saga-alone", b.SagaAlone, func(n int) bench.Load { return bench.Load{InFlight: n, SagaAlone: true} })...)
	loads = append(loads, numbers("accept", b.Accept, func(n int) bench.Load { return bench.Load{Accept: n} })...)
	for _, r := range b.Rate {
		if r == 0 {
			continue
		}
		if !(r > 0 && r <= maxRate) { // not a number either
			errs = append(errs, fmt.Errorf("--rate is %g, must be more than 0 and at most %d", r, maxRate))
		}
		loads, rival = append(loads, bench.Load{Rate: r}), append(rival, bench.Load{Rate: r})
	}
	if len(loads)+len(b.Rivals) == 0 || len(loads) > maxLoads {
		errs = append(errs, fmt.Errorf("--in-flight, --saga-alone, --accept and --rate are %d loads, must be from 1 to %d", len(loads), maxLoads))
	}
	if len(rival) > maxLoads {
		errs = append(errs, fmt.Errorf("--rival-in-flight and --rate are %d loads, must be at most %d", len(rival), maxLoads))
	}
	if b.Duration < time.Second || b.Duration > maxWindow {
		errs = append(errs, fmt.Errorf("--duration is %s, must be from 1s to %s", b.Duration, maxWindow))
	}
	if b.Warmup < 0 || b.Warmup > maxWindow {
		errs = append(errs, fmt.Errorf("--warmup is %s, must be from 0s to %s", b.Warmup, maxWindow))
	}
	if b.BreakIn < 0 || b.BreakIn > maxWindow {
		errs = append(errs, fmt.Errorf("--break-in is %s, must be from 0s to %s", b.BreakIn, maxWindow))
	}
	if slices.ContainsFunc(loads, func(l bench.Load) bool { return l.SagaAlone }) && b.Warmup+b.Duration > maxAlone {
		errs = append(errs, fmt.Errorf("--warmup and --duration are %s together, must be at most %s with --saga-alone: who stands still catches up afterwards",
			b.Warmup+b.Duration, maxAlone))
	}
	return loads, rival, errors.Join(errs...)
}

// rivals are the names that were asked for.
func (b benchCmd) rivals() ([]string, error) {
	for _, name := range b.Rivals {
		switch {
		case name == "all" && len(b.Rivals) == 1:
			return bench.Rivals(), nil
		case !slices.Contains(bench.Rivals(), name):
			return nil, fmt.Errorf("--rivals has %q, must be all, or some of %s", name, strings.Join(bench.Rivals(), ", "))
		}
	}
	return b.Rivals, nil
}

// Run prints the figures, and fails when there are none of some load.
func (b benchCmd) Run(ctx context.Context, c console) error {
	loads, rival, err := b.loads()
	if err != nil {
		return err
	}
	rivals, err := b.rivals()
	if err != nil {
		return err
	}
	if len(rivals) > 0 && b.Stack != "native" {
		return errors.New("--rivals needs real servers: --stack=native")
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
	report, err := b.measure(ctx, c, dir, bench.Config{Loads: loads, Rivals: rivals, RivalLoads: rival}, env)
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

func (b benchCmd) measure(ctx context.Context, c console, dir string, cfg bench.Config, env map[string][]string) (bench.Report, error) {
	opts, err := b.options(b.Bin, dir, env)
	if err != nil {
		return bench.Report{}, err
	}
	if opts.Native != nil {
		opts.Native.JVM = bench.KafkaJVM()
	}
	cfg.Stack, cfg.Groups, cfg.Warmup, cfg.Window, cfg.Seed = opts, client.Groups(), b.Warmup, b.Duration, b.Seed
	if opts.Native != nil {
		cfg.BreakIn = b.BreakIn // the embedded Kafka is compiled
	}
	cfg.Progress = func(format string, args ...any) { say(c.err, "… "+format+"\n", args...) }
	return bench.Run(ctx, cfg)
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
