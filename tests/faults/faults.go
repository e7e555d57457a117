package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/tests/faults/inject"
	"github.com/orderflow/orderflow/tools/client"
)

// fault is something that is broken for a while. End mends it, also when Begin failed.
type fault interface {
	Begin(ctx context.Context) error
	End(ctx context.Context) error
}

// errNotMet says that nobody came to a point, so nothing was broken.
var errNotMet = errors.New("nobody came there")

// reach is how long a point is waited for.
const reach = 3 * time.Second

// fault is what a step of the plan does to this run's system.
func (r *run) fault(s Step) fault {
	service, server, _ := strings.Cut(s.On[0], " to ")
	link := inject.Link{Service: service, Server: server}
	switch s.Kind {
	case DieAt:
		return &point{run: r, step: s, do: inject.Die}
	case FailAt:
		return &point{run: r, step: s, do: inject.Fail}
	case HangAt:
		return &point{run: r, step: s, do: inject.Hang(s.Most)}
	case Clock:
		return &mended{begin: func() (func() error, error) {
			by, err := time.ParseDuration(s.With)
			if err != nil {
				return nil, err
			}
			return r.processes.SetClock(instance(s.On[0]), by)
		}}
	case Disk:
		return &mended{begin: func() (func() error, error) { return inject.FullDisk(r.stack.PIDs()[s.On[0]]) }}
	case Cut:
		return simple(func() func() { r.network.Cut(link); return func() {} })
	case Refuse:
		return simple(func() func() { return r.network.Refuse(link) })
	case Slow:
		return simple(func() func() { return r.network.Slow(link, slowly) })
	case Stall:
		return simple(func() func() { return r.network.Stall(link) })
	case HalfOpen:
		return simple(func() func() { return r.network.HalfOpen(link) })
	case Outside:
		return simple(func() func() { return r.provider.Begin(inject.Manner(s.With)) })
	case Restart:
		return restart{r, s.On}
	case Again, Late, Shuffled:
		return &again{run: r, step: s}
	default:
		return kill{r, s.On}
	}
}

// slowly is a line between continents.
var slowly = inject.Speed{Latency: 20 * time.Millisecond, Jitter: 80 * time.Millisecond, BytesPerSecond: 256 << 10}

// kill ends processes as a machine does that loses power, all of them at once, and starts them again.
type kill struct {
	run *run
	on  []string
}

func (k kill) Begin(context.Context) error {
	return each(k.on, k.run.stack.Kill)
}

func (k kill) End(ctx context.Context) error {
	return each(k.on, func(name string) error { return k.run.stack.Restart(ctx, name) })
}

// restart has processes stop as they do in a deploy, and starts them again.
type restart struct {
	run *run
	on  []string
}

func (s restart) Begin(ctx context.Context) error {
	return each(s.on, func(name string) error { return s.run.stack.Restart(ctx, name) })
}

func (restart) End(context.Context) error { return nil }

// each calls fn for all names at once.
func each(names []string, fn func(name string) error) error {
	failed := make(chan error)
	for _, name := range names {
		go func() {
			err := fn(name)
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			failed <- err
		}()
	}
	var errs error
	for range names {
		errs = errors.Join(errs, <-failed)
	}
	return errs
}

// point has a process die, fail or hang where a message is in the middle of something.
type point struct {
	run    *run
	step   Step
	do     inject.Action
	disarm func() (bool, error)
	gone   <-chan struct{}
}

// Begin returns when the process has come there, or was waited for in vain.
func (p *point) Begin(ctx context.Context) (err error) {
	name := p.step.On[0]
	if p.do == inject.Die {
		p.gone = p.run.expect(name)
	}
	if p.disarm, err = p.run.processes.Arm(instance(name), failpoint.Point(p.step.With), p.do); err != nil {
		p.run.forget(name)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	_ = p.run.processes.Met(ctx, instance(name)) // End tells whether it did
	return nil
}

// End takes back what was not done, and starts the process again when it has died.
func (p *point) End(ctx context.Context) error {
	if p.disarm == nil {
		return nil
	}
	met, err := p.disarm()
	switch {
	case err != nil:
		return err
	case !met:
		p.run.forget(p.step.On[0])
		return errNotMet
	case p.gone == nil:
		return nil
	}
	select {
	case <-p.gone:
		return p.run.stack.Restart(ctx, p.step.On[0])
	case <-ctx.Done():
		return fmt.Errorf("%s was told to die and lives: %w", p.step.On[0], ctx.Err())
	}
}

// mended is a fault that one call begins, which returns what mends it.
type mended struct {
	begin func() (mend func() error, err error)
	mend  func() error
}

func simple(begin func() (mend func())) fault {
	return &mended{begin: func() (func() error, error) {
		mend := begin()
		return func() error { mend(); return nil }, nil
	}}
}

func (m *mended) Begin(context.Context) (err error) {
	m.mend, err = m.begin()
	return err
}

func (m *mended) End(context.Context) error {
	if m.mend == nil {
		return nil
	}
	return m.mend()
}

// newest is how many records of each partition come again.
const newest = 20

// again sends the newest records of a topic a second time: at once, or some time later, or in another order.
type again struct {
	run  *run
	step Step
	late []inject.Record
}

func (a *again) Begin(ctx context.Context) error {
	var all []inject.Record
	err := leads(ctx, func(ctx context.Context) (err error) {
		all, err = a.run.records.Newest(ctx, a.step.On[0], newest)
		return err
	})
	switch {
	case err != nil:
		return err
	case a.step.Kind == Late:
		a.late = all
		return nil
	case a.step.Kind == Shuffled:
		all = inject.Shuffled(all, rand.New(rand.NewPCG(a.run.plan.Seed, uint64(a.step.After))))
	}
	return a.send(ctx, all)
}

func (a *again) End(ctx context.Context) error { return a.send(ctx, a.late) }

func (a *again) send(ctx context.Context, all []inject.Record) error {
	return leads(ctx, func(context.Context) error { return a.run.records.Send(all...) })
}

// leads tries until a broker that has just come back leads its partitions again.
func leads(ctx context.Context, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return client.Eventually(ctx, try)
}

// instance is what a process of the stack is called as an INSTANCE_ID.
func instance(process string) string {
	if strings.Contains(process, "-") {
		return process
	}
	return process + "-1"
}
