package faults

import (
	"context"
	"errors"
	"fmt"
)

// fault is something that is broken for a while. End mends it, also when Begin failed.
type fault interface {
	Begin(ctx context.Context) error
	End(ctx context.Context) error
}

// fault is what a step of the plan does to this run's stack.
func (r *run) fault(s Step) fault {
	return kill{r, s.On}
}

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
