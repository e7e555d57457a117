// Package coalesce lets calls that come at the same time share one piece of work: one commit, one statement.
//
//	known := coalesce.New(256, 0, func(ctx context.Context, calls []*coalesce.Call[string, bool]) error { … })
//	is, err := known.Do(ctx, id)
//
// One batch is under way at a time. A call that finds none begins at once; whoever comes meanwhile waits for the next, and
// nobody waits for more to come: alone, a call costs what it did before; under load, a batch is as large as what came
// during the one before it.
//
// It promises that each call is in one batch, that a call whose context ends before its batch begins is in none, and that
// the work's error or panic reaches every call of its batch that has no answer. It does not promise an order among
// calls, nor that a call whose context ends later was not done.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// ErrFull: as many calls wait as may.
var ErrFull = errors.New("too many calls wait")

// Call is one call in a batch. The work sets Out or Err.
type Call[In, Out any] struct {
	// Ctx is the caller's: its values are this call's alone.
	Ctx context.Context
	In  In
	Out Out
	Err error

	done chan struct{}
}

// Group runs calls in batches. It is safe for concurrent use.
type Group[In, Out any] struct {
	limit, most int
	work        func(ctx context.Context, calls []*Call[In, Out]) error

	mu      sync.Mutex
	busy    bool
	waiting []*Call[In, Out]
}

// New returns a group whose batches have up to limit calls. Of those that come while a batch is under way, most may wait,
// and the next gets ErrFull; 0 means any number. Work is given a context that ends when those of all its calls have. Its
// error is that of every call which it gave none.
func New[In, Out any](limit, most int, work func(ctx context.Context, calls []*Call[In, Out]) error) *Group[In, Out] {
	return &Group[In, Out]{limit: limit, most: most, work: work}
}

// lookupMax bounds how many keys are looked up at once.
const lookupMax = 1024

// Lookup returns a group that looks up keys, those of up to 1,024 calls in one find. The answer to a key that find does
// not return is the zero value.
func Lookup[K comparable, V any](find func(ctx context.Context, keys []K) (map[K]V, error)) *Group[K, V] {
	return New(lookupMax, 0, func(ctx context.Context, calls []*Call[K, V]) error {
		keys := make([]K, len(calls))
		for i, c := range calls {
			keys[i] = c.In
		}
		found, err := find(ctx, keys)
		for _, c := range calls {
			c.Out = found[c.In]
		}
		return err
	})
}

// Do has in worked on and returns what came of it. Its errors are the work's, ErrFull, and that of ctx: then what became
// of the call is unknown if it had begun.
func (g *Group[In, Out]) Do(ctx context.Context, in In) (out Out, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	c := &Call[In, Out]{Ctx: ctx, In: in, done: make(chan struct{})}
	g.mu.Lock()
	switch {
	case !g.busy:
		g.busy = true
		g.mu.Unlock()
		g.run([]*Call[In, Out]{c})
		return c.Out, c.Err
	case g.most > 0 && len(g.waiting) >= g.most:
		g.mu.Unlock()
		return out, ErrFull
	}
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.Out, c.Err
	case <-ctx.Done():
		return out, ctx.Err()
	}
}

// Waiting is how many calls wait for their batch.
func (g *Group[In, Out]) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// next starts the batch of those that wait.
func (g *Group[In, Out]) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := make([]*Call[In, Out], 0, min(len(g.waiting), g.limit))
	taken := 0
	for _, c := range g.waiting {
		if len(batch) == g.limit {
			break
		}
		taken++
		if c.Ctx.Err() == nil {
			batch = append(batch, c)
		}
	}
	g.waiting = append([]*Call[In, Out](nil), g.waiting[taken:]...)
	if g.busy = len(batch) > 0; g.busy {
		go g.run(batch)
	}
}

func (g *Group[In, Out]) run(calls []*Call[In, Out]) {
	defer g.next()
	err := errors.New("the work ended its goroutine")
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		for _, c := range calls {
			if c.Err == nil {
				c.Err = err
			}
			close(c.done)
		}
	}()
	contexts := make([]context.Context, len(calls))
	for i, c := range calls {
		contexts[i] = c.Ctx
	}
	ctx, cancel := WhileAny(contexts...)
	defer cancel()
	err = g.work(ctx, calls)
}

// WhileAny returns a context that ends when all of the given ones have ended, without their values. It must be cancelled.
func WhileAny(contexts ...context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	var left atomic.Int64
	left.Store(int64(len(contexts)))
	stops := make([]func() bool, len(contexts))
	for i, one := range contexts {
		stops[i] = context.AfterFunc(one, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
