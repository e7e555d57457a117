package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tests/faults/inject"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

const (
	// runTimeout bounds a run, quietTimeout the wait for everything to hold once all is mended.
	runTimeout, quietTimeout = 10 * time.Minute, 2 * time.Minute
	stopTimeout              = time.Minute
	// readyTimeout is how long a process may take to come up, on a machine that is busy.
	readyTimeout = 2 * time.Minute
)

// settings make what takes long in production short enough to be seen.
var settings = map[string][]string{
	"":         {"CONSUMER_BACKOFF_INITIAL=50ms", "CONSUMER_BACKOFF_MAX=400ms", "LOG_LEVEL=info", "LAG_INTERVAL=1s"},
	"order":    {"SAGA_STEP_DEADLINE=5s", "SAGA_UNDO_DEADLINE=2s", "SAGA_TIMER_POLL=100ms"},
	"payment":  {"PAYMENT_PROVIDER_TIMEOUT=600ms", "PAYMENT_PROVIDER_BREAKER_COOLDOWN=200ms", "PAYMENT_SANDBOX_SLOW=300ms"},
	"shipping": {"CARRIER_TIMEOUT=600ms", "CARRIER_BREAKER_COOLDOWN=200ms", "CARRIER_SANDBOX_SLOW=300ms"},
}

// ambiguous is an answer that leaves open whether the order was placed.
var ambiguous = audit.Options{Ambiguous: []int{http.StatusServiceUnavailable}}

// Config is where a run finds what it needs.
type Config struct {
	// Bin is the folder of the services' binaries.
	Bin string
	// Dir keeps the stack's files and logs.
	Dir string
	// Libs is the folder of Kafka's jars, for native stacks.
	Libs string
	// Quiet is how long everything may take to hold once all is mended; 0 means two minutes.
	Quiet time.Duration
	// Say hears of each fault; nil is nobody.
	Say func(format string, args ...any)
}

// run is a plan at work.
type run struct {
	plan   Plan
	cfg    Config
	began  time.Time
	stack  *stack.Stack
	system *client.System
	load   *load
	// network to provider are what faults are made with; provider is nil for the sandboxes.
	network   *inject.Network
	processes *inject.Processes
	records   *inject.Records
	provider  *inject.Provider
	// held are the locks of what faults are on: one at a time on each.
	held map[string]*sync.Mutex

	mu     sync.Mutex
	result Result
	// expected are processes that may go down, and are told of it.
	expected map[string]chan struct{}
}

// Run carries out a plan on a stack of its own. What did not hold is in the result; the error is about running it.
func Run(ctx context.Context, p Plan, cfg Config) (_ Result, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	r := &run{plan: p, cfg: cfg, began: time.Now(), held: map[string]*sync.Mutex{}, expected: map[string]chan struct{}{}, result: Result{Plan: p}}
	for _, s := range p.Steps {
		for _, name := range s.On {
			r.held[name] = &sync.Mutex{}
		}
	}
	r.say("%s", p)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, r.close(ctx))
	}()
	if err := r.start(ctx); err != nil {
		return r.result, err
	}
	err = r.perform(ctx)
	r.result.Took = time.Since(r.began)
	return r.result, err
}

// start starts the stack and what breaks it.
func (r *run) start(ctx context.Context) (err error) {
	env := map[string][]string{}
	maps.Copy(env, settings)
	if r.processes, err = inject.OpenProcesses(filepath.Join(r.cfg.Dir, "failpoints")); err != nil {
		return err
	}
	env[""] = slices.Concat(env[""], r.processes.Env())
	if r.plan.Provider {
		if r.provider, err = inject.OpenProvider(); err != nil {
			return err
		}
		for service, own := range r.provider.Env() {
			env[service] = slices.Concat(env[service], own)
		}
	}
	r.network = inject.NewNetwork(client.Services()...)
	o := stack.Options{Bin: r.cfg.Bin, Dir: r.cfg.Dir, Replicas: r.plan.Replicas, Env: env, Between: r.network.Between, ReadyTimeout: readyTimeout}
	if r.plan.Native {
		o.Native = &stack.Native{Libs: r.cfg.Libs, Brokers: 1}
	}
	if r.stack, err = stack.Start(ctx, o); err != nil {
		return err
	}
	r.records, err = inject.OpenRecords(r.stack.Brokers())
	return err
}

func (r *run) close(ctx context.Context) error {
	var errs []error
	if r.records != nil {
		errs = append(errs, r.records.Close())
	}
	if r.stack != nil {
		errs = append(errs, r.stack.Stop(ctx))
	}
	if r.network != nil {
		errs = append(errs, r.network.Close())
	}
	if r.provider != nil {
		errs = append(errs, r.provider.Close())
	}
	return errors.Join(errs...)
}

// perform has everything happen, and then looks.
func (r *run) perform(ctx context.Context) error {
	var shops []*client.System
	defer func() {
		for _, system := range shops {
			system.Close()
		}
	}()
	for number := 1; number <= r.plan.Replicas; number++ {
		system, err := r.connect(number)
		if err != nil {
			return err
		}
		shops = append(shops, system)
	}
	r.system, r.load = shops[0], newLoad(r.plan, shops, r.wrong)

	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(watching) })
	var breaking sync.WaitGroup
	for _, s := range r.plan.Steps {
		breaking.Go(func() { r.carryOut(ctx, s) })
	}
	r.load.run(ctx, r.plan.Rate)
	breaking.Wait()
	r.say("all is mended, %d orders were sent", r.load.soFar())
	err := r.quiet(ctx)
	stop()
	watch.Wait()
	return err
}

// connect is a client of the services' replicas of that number.
func (r *run) connect(number int) (*client.System, error) {
	a := client.Addresses{URLs: map[string]string{}, Brokers: r.stack.Brokers(), RedisURL: r.stack.RedisURL()}
	for _, service := range client.Services() {
		a.URLs[service] = r.stack.URL(replica(service, number))
	}
	return client.New(a)
}

// carryOut waits until it is time for a step, breaks, waits, and mends.
func (r *run) carryOut(ctx context.Context, s Step) {
	select {
	case <-r.load.placed(s.After):
	case <-ctx.Done():
		return
	}
	defer r.hold(s.On)()
	f := r.fault(s)
	r.say("%s", s)
	began := time.Now()
	err := f.Begin(ctx)
	if err == nil {
		select {
		case <-r.load.placed(r.load.soFar() + s.For):
		case <-time.After(s.Most):
		case <-ctx.Done():
		}
	}
	err = errors.Join(err, f.End(ctx))
	switch {
	case errors.Is(err, errNotMet):
		r.count(&r.result.Missed, s.Kind)
	case err != nil:
		r.wrong("%s: %s", s, err)
	default:
		r.count(&r.result.Faults, s.Kind)
	}
	r.say("%s (%s) is over after %.1f s", s.Kind, strings.Join(s.On, ", "), time.Since(began).Seconds())
}

// hold takes what a fault is on for this one alone, in one order for all, and returns what lets it go.
func (r *run) hold(names []string) func() {
	names = slices.Sorted(slices.Values(names))
	for _, name := range names {
		r.held[name].Lock()
	}
	return func() {
		for _, name := range names {
			r.held[name].Unlock()
		}
	}
}

// watch names what goes down without being told to.
func (r *run) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case exit := <-r.stack.Exits():
			if gone := r.forget(exit.Name); gone != nil {
				close(gone)
			} else {
				r.wrong("%s went down by itself (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log)
			}
		}
	}
}

// expect has a process go down, which what is returned tells.
func (r *run) expect(process string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected[process] = make(chan struct{})
	return r.expected[process]
}

// forget has it stay up again, and returns what would have told; nil when it was not expected to go down.
func (r *run) forget(process string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := r.expected[process]
	delete(r.expected, process)
	return gone
}

// quiet waits until everything holds, while an operator looks after the dead letters.
func (r *run) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.cfg.Quiet, quietTimeout))
	defer cancel()
	operating, stop := context.WithCancel(ctx)
	var operator sync.WaitGroup
	operator.Go(func() { r.operate(operating) })
	found, err := audit.Settle(ctx, r.sources(said), r.load.posts(), ambiguous)
	stop()
	operator.Wait()
	if err != nil {
		return err
	}
	r.result.Checks = found.Findings
	if err := found.Err(); err != nil {
		r.wrong("%s", err)
	}
	ctx = context.WithoutCancel(ctx)
	return errors.Join(r.endings(ctx), r.reconcile(ctx))
}

// endings holds each order's end against its story.
func (r *run) endings(ctx context.Context) error {
	all, err := r.system.AllOrders(ctx, "")
	if err != nil {
		return err
	}
	lied := r.lied()
	ended := map[string]string{}
	r.result.Ended = map[string]int{}
	for _, o := range all {
		reason := ""
		if o.Failure != nil {
			reason = o.Failure.Code
		}
		ended[o.OrderID] = reason
		r.result.Ended[reason]++
	}
	for _, o := range r.load.orders {
		r.result.Posts += len(o.posts)
		if reason, is := ended[o.id]; is && !o.may(reason) && !lied[o.id] {
			r.wrong("order %s (%s) ended with %q, must be one of %q", o.id, o.key, reason, o.ends)
		}
	}
	return nil
}

// sources are where the audit looks: at the servers themselves, and not through the network that was broken. Provider and carrier
// are read in their words (said) or as it really was.
func (r *run) sources(as func(inject.Entry) inject.Entry) audit.Sources {
	s := audit.Sources{System: r.system, Brokers: r.stack.Brokers(), RedisURL: r.stack.RedisURL(), Databases: map[string]string{}}
	for _, service := range client.Services() {
		s.Databases[service] = r.stack.DatabaseURL(service)
	}
	if r.provider != nil {
		s.Ledger = func(context.Context) ([]audit.Charge, error) { return r.charges(as), nil }
		s.Parcels = func(context.Context) ([]audit.Parcel, error) { return r.parcels(as), nil }
	}
	return s
}

func (r *run) count(of *map[Kind]int, k Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = sum(*of, map[Kind]int{k: 1})
}

// wrong notes what must not be.
func (r *run) wrong(format string, args ...any) {
	r.say(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Wrong = append(r.result.Wrong, fmt.Sprintf(format, args...))
}

func (r *run) say(format string, args ...any) {
	r.cfg.Say("%6.2f s  "+format, append([]any{time.Since(r.began).Seconds()}, args...)...)
}
