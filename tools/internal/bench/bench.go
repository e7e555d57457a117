package bench

import (
	"context"
	"errors"
	"time"

	"github.com/orderflow/orderflow/tools/stack"
)

// stopTimeout bounds the end of a benchmark.
const stopTimeout = 30 * time.Second

// Config is a benchmark as it should be.
type Config struct {
	// Stack is the system to run.
	Stack stack.Options
	// Groups are the consumer groups that must have caught up before and after a load, with the topics of each.
	Groups map[string][]string
	// Loads are put on the system one after the other.
	Loads []Load
	// Rivals are what the system is held against afterwards, of Rivals(), on the same servers. They need native ones.
	Rivals []string
	// RivalLoads are put on the rival that takes orders.
	RivalLoads []Load
	// BreakIn is how long orders come in before the first load, uncounted: Kafka's JVM compiles for a minute or more what it
	// has to do, which is no cost of an order. Warmup is how long each load runs before its window, Window how long that is.
	BreakIn, Warmup, Window time.Duration
	// Seed makes the orders.
	Seed uint64
	// Progress hears what is being done.
	Progress func(format string, args ...any)
}

// KafkaJVM are the settings that Kafka's own start script gives its JVM, which a stack for tests does not use.
func KafkaJVM() []string {
	return []string{
		"-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent",
	}
}

// Run runs the loads, then the rivals. The error is about running them; what was wrong with a load is in the report.
func Run(ctx context.Context, cfg Config) (report Report, err error) {
	report = Report{
		OK: true, Seed: cfg.Seed, Machine: machine(ctx, cfg.Stack), Stack: "embedded", Set: cfg.Stack.Env,
		BreakInSeconds: cfg.BreakIn.Seconds(), WarmupSeconds: cfg.Warmup.Seconds(), WindowSeconds: cfg.Window.Seconds(),
	}
	if cfg.Stack.Native != nil {
		report.Stack = "native"
	}
	if len(cfg.Rivals) > 0 && cfg.Stack.Native == nil {
		return report, errors.New("rivals need the servers of --stack=native")
	}
	if len(cfg.Loads) == 0 {
		cfg.Stack.Services = []string{}
	}
	cfg.Progress("starting the servers and the services")
	running, err := stack.Start(ctx, cfg.Stack)
	if err != nil {
		return report, err
	}
	defer func() {
		cfg.Progress("stopping")
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, running.Stop(stop))
	}()
	if len(cfg.Loads) > 0 {
		if err := measureOurs(ctx, cfg, running, &report); err != nil {
			return report, err
		}
	}
	if len(cfg.Rivals) > 0 {
		if err := running.StopServices(ctx); err != nil {
			return report, err
		}
		if err := measureRivals(ctx, cfg, serversOf(cfg, running), &report); err != nil {
			return report, err
		}
		report.Ratios = ratios(report.Runs)
	}
	return report, nil
}
