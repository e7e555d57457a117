package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

const (
	// runTimeout bounds a run, quietTimeout the wait for everything to hold once all is mended.
	runTimeout, quietTimeout = 6 * time.Minute, 2 * time.Minute
	stopTimeout              = time.Minute
)

// settings make what takes long in production short enough to be seen.
var settings = map[string][]string{
	"":         {"CONSUMER_BACKOFF_INITIAL=50ms", "CONSUMER_BACKOFF_MAX=400ms", "LOG_LEVEL=info", "LAG_INTERVAL=1s"},
	"order":    {"SAGA_STEP_DEADLINE=4s", "SAGA_UNDO_DEADLINE=2s", "SAGA_TIMER_POLL=100ms"},
	"payment":  {"PAYMENT_PROVIDER_TIMEOUT=600ms", "PAYMENT_SANDBOX_SLOW=300ms"},
	"shipping": {"CARRIER_TIMEOUT=600ms", "CARRIER_SANDBOX_SLOW=300ms"},
}

// Config is where a run finds what it needs.
type Config struct {
	// Bin is the folder of the services' binaries.
	Bin string
	// Dir keeps the stack's files and logs.
	Dir string
	// Libs is the folder of Kafka's jars, for native stacks.
	Libs string
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
	// held are the locks of what faults are on: one at a time on each.
	held map[string]*sync.Mutex

	mu     sync.Mutex
	result Result
}

// Run carries out a plan on a stack of its own. What did not hold is in the result; the error is about running it.
func Run(ctx context.Context, p Plan, cfg Config) (_ Result, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	r := &run{plan: p, cfg: cfg, began: time.Now(), held: map[string]*sync.Mutex{}, result: Result{Plan: p, Faults: map[Kind]int{}, Ended: map[string]int{}}}
	for _, s := range p.Steps {
		for _, name := range s.On {
			r.held[name] = &sync.Mutex{}
		}
	}
	o := stack.Options{Bin: cfg.Bin, Dir: cfg.Dir, Replicas: p.Replicas, Env: settings}
	if p.Native {
		o.Native = &stack.Native{Libs: cfg.Libs, Brokers: 1}
	}
	if r.stack, err = stack.Start(ctx, o); err != nil {
		return r.result, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, r.stack.Stop(ctx))
	}()
	err = r.perform(ctx)
	r.result.Took = time.Since(r.began)
	return r.result, err
}

// perform has everything happen, and then looks.
func (r *run) perform(ctx context.Context) error {
	shops := make([]*client.System, r.plan.Replicas)
	for i := range shops {
		system, err := r.connect(i + 1)
		if err != nil {
			return err
		}
		defer system.Close()
		shops[i] = system
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
		r.count(s.Kind)
		select {
		case <-r.load.placed(r.load.soFar() + s.For):
		case <-time.After(s.Most):
		case <-ctx.Done():
		}
	}
	if err = errors.Join(err, f.End(ctx)); err != nil {
		r.wrong("%s: %s", s, err)
	}
	r.say("%s (%v): mended after %.1f s", s.Kind, s.On, time.Since(began).Seconds())
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
			r.wrong("%s went down by itself (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log)
		}
	}
}

// quiet waits until everything holds, while an operator looks after the dead letters.
func (r *run) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	operating, stop := context.WithCancel(ctx)
	var operator sync.WaitGroup
	operator.Go(func() { r.operate(operating) })
	audit, err := books.Settle(ctx, r.system, books.Options{})
	stop()
	operator.Wait()
	if err != nil {
		return err
	}
	r.result.Checks = audit.Findings
	if err := audit.Err(); err != nil {
		r.wrong("%s", err)
	}
	return r.endings(context.WithoutCancel(ctx))
}

// endings holds each order's end against its story.
func (r *run) endings(ctx context.Context) error {
	all, err := r.system.AllOrders(ctx, "")
	if err != nil {
		return err
	}
	reasons := map[string]string{}
	for _, o := range all {
		reason := ""
		if o.Failure != nil {
			reason = o.Failure.Code
		}
		reasons[o.OrderID] = reason
		r.result.Ended[reason]++
	}
	for _, o := range r.load.orders {
		r.result.Retries += o.retries
		if o.id == "" {
			r.result.Unanswered++
			continue
		}
		reason, ok := reasons[o.id]
		switch {
		case !ok:
			r.wrong("order %s (%s) was answered with %d and is gone", o.id, o.key, o.status)
		case !o.may(reason):
			r.wrong("order %s (%s) ended with %q, must be one of %q", o.id, o.key, reason, o.ends)
		}
	}
	return nil
}

func (r *run) count(k Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Faults[k]++
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
