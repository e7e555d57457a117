package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/stack"
)

// Bounds of what is waited for.
const (
	// quietTimeout is for consumer groups to catch up, booksTimeout for the books to balance after that.
	quietTimeout, booksTimeout = 3 * time.Minute, 5 * time.Minute
	stopTimeout                = 30 * time.Second
	// quietInterval is how often the lag is asked for.
	quietInterval = 500 * time.Millisecond
	// stocked is how much of every product is taken in: enough if all orders were of it.
	stocked = maxOrders
)

// Config is a benchmark as it should be.
type Config struct {
	// Stack is the system to run.
	Stack stack.Options
	// Groups are the consumer groups that must have caught up before and after a load, with the topics of each.
	Groups map[string][]string
	// Loads are put on the system one after the other.
	Loads []Load
	// Warmup is how long a load runs before the window, Window how long that is.
	Warmup, Window time.Duration
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

// bench is a benchmark at work.
type bench struct {
	cfg    Config
	stack  *stack.Stack
	system *client.System
	admin  *kafka.Admin
	meter  *meter
	shop   *shop
}

// Run runs the loads. The error is about running them; what was wrong with one is in the report.
func Run(ctx context.Context, cfg Config) (report Report, err error) {
	report = Report{
		Seed: cfg.Seed, Machine: machine(ctx, cfg.Stack), Stack: "embedded", Set: cfg.Stack.Env,
		WarmupSeconds: cfg.Warmup.Seconds(), WindowSeconds: cfg.Window.Seconds(),
	}
	if cfg.Stack.Native != nil {
		report.Stack = "native"
	}
	cfg.Progress("starting the servers and six services")
	b := &bench{cfg: cfg}
	if b.stack, err = stack.Start(ctx, cfg.Stack); err != nil {
		return report, err
	}
	// In this order at the end: what uses the stack, then the stack; each also when the one before failed.
	var closers []func(context.Context) error
	defer func() {
		cfg.Progress("stopping")
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		for _, closer := range slices.Backward(closers) {
			err = errors.Join(err, closer(stop))
		}
	}()
	closers = append(closers, b.stack.Stop)

	addresses := client.Addresses{URLs: map[string]string{}, Brokers: b.stack.Brokers(), RedisURL: b.stack.RedisURL()}
	for _, service := range client.Services() {
		addresses.URLs[service] = b.stack.URL(service)
	}
	if b.system, err = client.New(addresses); err != nil {
		return report, err
	}
	closers = append(closers, func(context.Context) error { b.system.Close(); return nil })
	if b.admin, err = kafka.NewAdmin(kafka.Config{Brokers: addresses.Brokers, ClientID: "orderflow-bench"}); err != nil {
		return report, err
	}
	closers = append(closers, func(context.Context) error { return b.admin.Close() })
	if b.meter, err = newMeter(ctx, b.stack); err != nil {
		return report, err
	}
	closers = append(closers, b.meter.close)
	b.shop = &shop{ends: newTracker(), seed: cfg.Seed}
	transport := newTransport()
	closers = append(closers, func(context.Context) error { transport.CloseIdleConnections(); return nil })
	if b.shop.orders, err = orderapi.NewClientWithResponses(addresses.URLs["order"],
		orderapi.WithHTTPClient(&http.Client{Transport: transport, Timeout: requestTimeout})); err != nil {
		return report, err
	}
	t, err := follow(addresses.Brokers, b.shop.ends)
	if err != nil {
		return report, err
	}
	closers = append(closers, func(context.Context) error { return t.close() })

	if err := b.restock(ctx); err != nil {
		return report, err
	}
	report.OK = true
	for _, l := range cfg.Loads {
		run, err := b.run(ctx, l)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		if err != nil {
			return report, fmt.Errorf("%s: %w", l, err)
		}
		report.OK = report.OK && len(run.Wrong) == 0
		report.Runs = append(report.Runs, run)
	}
	return report, nil
}

// restock takes in more of every product than there can be orders.
func (b *bench) restock(ctx context.Context) error {
	products, err := b.system.Products(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		b.shop.skus = append(b.shop.skus, p.SKU)
		if _, err := b.system.Restock(ctx, "bench-stock-"+p.SKU, p.SKU, stocked); err != nil {
			return err
		}
	}
	slices.Sort(b.shop.skus)
	return nil
}

// run puts one load on the system.
func (b *bench) run(ctx context.Context, l Load) (Result, error) {
	r := Result{Load: l}
	if err := b.quiet(ctx); err != nil {
		return r, err
	}
	b.cfg.Progress("%s: %s of warm-up and %s", l, b.cfg.Warmup, b.cfg.Window)
	runtime.GC() // what the last audit read
	before, err := b.meter.read(ctx)
	if err != nil {
		return r, err
	}
	peaks := b.meter.watch()
	start := time.Now()
	t := &tally{from: start.Add(b.cfg.Warmup), to: start.Add(b.cfg.Warmup + b.cfg.Window)}
	if l.InFlight > 0 {
		b.shop.closed(ctx, t, l.InFlight)
	} else {
		b.shop.open(ctx, t, start, l.Rate)
	}
	quiet := b.quiet(ctx)
	settled := time.Since(t.to)
	memory, err := peaks()
	after, failed := b.meter.read(ctx)
	died := b.died()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.Wrong = append(t.wrong(), died...)
	// A service that died is why nothing can be read of it.
	if err := errors.Join(quiet, err, failed); err != nil && len(died) == 0 {
		return r, err
	}
	b.cfg.Progress("%s: %d orders; reading the books", l, t.confirmed+t.cancelled)
	said, wrong, err := b.books(ctx)
	if err != nil && len(r.Wrong) == 0 {
		return r, err
	}
	if r.Wrong = append(r.Wrong, wrong...); len(r.Wrong) == 0 {
		r.Figures = figures(t, before, after, memory, b.cfg.Window)
		r.Figures.SettleSeconds, r.Figures.Books = settled.Seconds(), said
	}
	return r, nil
}

// figures divides what a load used by its orders.
func figures(t *tally, before, after reading, memory map[string]int64, window time.Duration) *Figures {
	orders := float64(t.confirmed + t.cancelled)
	f := &Figures{
		PerSecond: float64(t.ended) / window.Seconds(), EndToEnd: latencyOf(t.endToEnd), Accept: latencyOf(t.accept),
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

// quiet waits until no consumer group is behind.
func (b *bench) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	for {
		lags, err := b.admin.Lag(ctx, b.cfg.Groups)
		if err != nil {
			return err
		}
		behind := ""
		for _, group := range lags {
			for _, p := range group.Partitions {
				if p.Lag > 0 && behind == "" {
					behind = fmt.Sprintf("%s is %d behind in %s/%d", group.Group, p.Lag, p.Topic, p.Partition)
				}
			}
		}
		if behind == "" {
			return nil
		}
		if !wait(ctx, quietInterval) {
			return fmt.Errorf("the system does not come to rest (%w): %s", ctx.Err(), behind)
		}
	}
}

// books audits the whole system.
func (b *bench) books(ctx context.Context) (says, wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	audit, err := books.Settle(ctx, b.system, books.Options{})
	if err != nil {
		return nil, nil, err
	}
	for _, f := range audit.Findings {
		says = append(says, f.Name+": "+f.Says)
	}
	if err := audit.Err(); err != nil {
		wrong = append(wrong, fmt.Sprintf("the books: %.2000s", err))
	}
	return says, wrong, nil
}

// died names what went down by itself.
func (b *bench) died() (names []string) {
	for {
		select {
		case exit := <-b.stack.Exits():
			names = append(names, fmt.Sprintf("%s went down (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log))
		default:
			return names
		}
	}
}
