package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/coalesce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type call = coalesce.Call[int, string]

// scene is a group whose batches wait until they are let through.
type scene struct {
	group   *coalesce.Group[int, string]
	through chan func([]*call) error
	mu      sync.Mutex
	batches [][]int
}

func newScene(limit, most int) *scene {
	s := &scene{through: make(chan func([]*call) error)}
	s.group = coalesce.New(limit, most, func(_ context.Context, calls []*call) error {
		var in []int
		for _, c := range calls {
			in = append(in, c.In)
			c.Out = fmt.Sprint(c.In)
		}
		s.mu.Lock()
		s.batches = append(s.batches, in)
		s.mu.Unlock()
		return (<-s.through)(calls)
	})
	return s
}

type result struct {
	out string
	err error
}

// call makes a call and returns once it is in a batch or waits.
func (s *scene) call(ctx context.Context, t *testing.T, in int) chan result {
	t.Helper()
	before := s.seen()
	done := make(chan result, 1)
	go func() {
		out, err := s.group.Do(ctx, in)
		done <- result{out, err}
	}()
	require.Eventually(t, func() bool { return s.seen() > before }, 10*time.Second, time.Millisecond)
	return done
}

func (s *scene) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.group.Waiting()
	for _, b := range s.batches {
		n += len(b)
	}
	return n
}

func fine([]*call) error { return nil }

// Whoever comes during a batch is in the next, up to the limit.
func TestBatches(t *testing.T) {
	t.Parallel()
	s := newScene(2, 0)
	var all []chan result
	for i := range 4 {
		all = append(all, s.call(t.Context(), t, i))
	}
	for range 3 {
		s.through <- fine
	}
	for i, done := range all {
		require.Equal(t, result{out: fmt.Sprint(i)}, <-done)
	}
	require.Equal(t, [][]int{{0}, {1, 2}, {3}}, s.batches)
}

// The work's error is that of the calls that have none of their own; a panic and a goroutine's end are errors too.
func TestErrors(t *testing.T) {
	t.Parallel()
	own, shared := errors.New("own"), errors.New("shared")
	for name, end := range map[string]func() error{
		"error": func() error { return shared }, "panic": func() error { panic("oh") },
		"goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(8, 0)
			first := s.call(t.Context(), t, 0)
			second, third := s.call(t.Context(), t, 1), s.call(t.Context(), t, 2)
			s.through <- fine
			require.NoError(t, (<-first).err)
			s.through <- func(calls []*call) error {
				calls[0].Err = own
				return end()
			}
			require.ErrorIs(t, (<-second).err, own)
			require.ErrorContains(t, (<-third).err, map[string]string{"error": "shared", "panic": "panic: oh", "goexit": "goroutine"}[name])
			again := s.call(t.Context(), t, 3)
			s.through <- fine
			require.NoError(t, (<-again).err)
		})
	}
}

// One that is cancelled while it waits is in no batch, and more than may wait are refused.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := newScene(8, 2)
	first := s.call(t.Context(), t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	second, third := s.call(ctx, t, 1), s.call(t.Context(), t, 2)
	_, err := s.group.Do(t.Context(), 3)
	require.ErrorIs(t, err, coalesce.ErrFull)
	cancel()
	require.ErrorIs(t, (<-second).err, context.Canceled)
	_, err = s.group.Do(ctx, 4)
	require.ErrorIs(t, err, context.Canceled)
	s.through <- fine
	s.through <- fine
	require.NoError(t, (<-first).err)
	require.NoError(t, (<-third).err)
	require.Equal(t, [][]int{{0}, {2}}, s.batches)
}

// The work's context ends when nobody waits for it any more, and not before.
func TestWhileAny(t *testing.T) {
	t.Parallel()
	one, endOne := context.WithCancel(t.Context())
	two, endTwo := context.WithCancel(t.Context())
	any, cancel := coalesce.WhileAny(one, two)
	defer cancel()
	endOne()
	require.NoError(t, any.Err())
	endTwo()
	<-any.Done()
}

// Each call gets the value of its own key, also when two ask for one, and the zero value when there is none.
func TestLookup(t *testing.T) {
	t.Parallel()
	begun, through := make(chan []int), make(chan error)
	group := coalesce.Lookup(func(_ context.Context, keys []int) (map[int]string, error) {
		begun <- keys
		return map[int]string{1: "one", 2: "two"}, <-through
	})
	type answer struct {
		key int
		result
	}
	answers := make(chan answer, 8)
	ask := func(keys ...int) {
		for _, key := range keys {
			go func() {
				out, err := group.Do(t.Context(), key)
				answers <- answer{key, result{out, err}}
			}()
		}
	}
	ask(1)
	require.Equal(t, []int{1}, <-begun)
	ask(1, 2, 2, 3)
	require.Eventually(t, func() bool { return group.Waiting() == 4 }, 10*time.Second, time.Millisecond)
	through <- nil
	require.ElementsMatch(t, []int{1, 2, 2, 3}, <-begun)
	through <- nil
	for range 5 {
		a := <-answers
		require.Equal(t, result{out: map[int]string{1: "one", 2: "two"}[a.key]}, a.result)
	}
	ask(1)
	<-begun
	no := errors.New("no")
	through <- no
	require.ErrorIs(t, (<-answers).err, no)
}
