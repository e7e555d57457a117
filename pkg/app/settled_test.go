package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
)

// tells is what there is to see, and a clock.
type tells struct {
	*settled
	t       *testing.T
	now     time.Time
	queues  map[place]queue
	unsent  time.Time
	err     error
	looks   int
	command place
	answer  place
}

func newTells(t *testing.T) *tells {
	t.Helper()
	w := &tells{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), queues: map[place]queue{},
		command: place{"payment", "payment.commands", 0}, answer: place{"order", "payment.charged", 3},
	}
	w.settled = &settled{patience: 30 * time.Second, every: time.Second, look: func(context.Context) (map[place]queue, time.Time, error) {
		w.looks++
		seen := map[place]queue{}
		for p, q := range w.queues {
			seen[p] = q
		}
		return seen, w.unsent, w.err
	}}
	w.is(w.command, 0, 0)
	w.is(w.answer, 0, 0)
	return w
}

func (w *tells) is(p place, next, end int64) {
	w.queues[p] = queue{next: next, end: end, own: p.group == "order"}
}

// after lets time pass, a look a second, and returns how long ago the answer is.
func (w *tells) after(d time.Duration) time.Duration {
	w.t.Helper()
	var until time.Time
	for range int(d / time.Second) {
		w.now = w.now.Add(time.Second)
		var err error
		until, err = w.at(w.t.Context(), w.now)
		require.NoError(w.t, err)
	}
	return w.now.Sub(until)
}

func TestSettledWhenNothingWaits(t *testing.T) {
	t.Parallel()
	w := newTells(t)
	until, err := w.at(t.Context(), w.now)
	require.NoError(t, err)
	require.True(t, until.IsZero(), "nothing is known at first")
	require.Equal(t, 2*time.Second, w.after(3*time.Second), "commands, and answers a look later")
	require.Equal(t, 2*time.Second, w.after(10*time.Second))
	looks := w.looks
	_, err = w.at(t.Context(), w.now.Add(time.Millisecond))
	require.NoError(t, err)
	require.Equal(t, looks, w.looks, "it looks once in every")
}

// TestSettledWaitsForWhatMoves: commands and answers that wait hold it up for as long as their queues move.
func TestSettledWaitsForWhatMoves(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(*tells) place{
		"a participant": func(w *tells) place { return w.command },
		"the service":   func(w *tells) place { return w.answer },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTells(t)
			w.after(5 * time.Second)
			for i := range int64(10) { // and there is always more to come
				w.is(of(w), i, 100+i)
				require.GreaterOrEqual(t, w.after(20*time.Second), time.Duration(i)*20*time.Second, "%d", i)
			}
			w.is(of(w), 101, 120)
			require.LessOrEqual(t, w.after(4*time.Second), 206*time.Second, "what was noted is handled, what came later is not waited for")
			w.is(of(w), 120, 120)
			require.Equal(t, 2*time.Second, w.after(4*time.Second))
		})
	}
}

// TestSettledGoesOnWithoutWhoStandsStill: that is the bound, and it is the queue's alone.
func TestSettledGoesOnWithoutWhoStandsStill(t *testing.T) {
	t.Parallel()
	w := newTells(t)
	w.after(5 * time.Second)
	w.is(w.command, 7, 8)
	require.GreaterOrEqual(t, w.after(29*time.Second), 29*time.Second)
	require.Equal(t, 2*time.Second, w.after(5*time.Second), "a participant that handles nothing is silent")

	w.is(w.answer, 7, 8)
	require.GreaterOrEqual(t, w.after(59*time.Second), 59*time.Second, "the service itself has a minute")
	require.Equal(t, 2*time.Second, w.after(5*time.Second))
}

// TestSettledAfterAnOutage: what could not be seen has not stood still, and a group has time to come back.
func TestSettledAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newTells(t)
	w.patience = 5 * time.Second
	w.after(5 * time.Second)
	w.is(w.command, 7, 8)
	w.after(4 * time.Second)
	before := w.now
	w.err = fault.Unavailablef("away")
	w.now = w.now.Add(time.Hour)
	_, err := w.at(t.Context(), w.now)
	require.Error(t, err)
	w.err = nil
	require.Greater(t, w.after(15*time.Second), time.Hour)
	w.is(w.command, 8, 8)
	require.Equal(t, 2*time.Second, w.after(4*time.Second))
	require.True(t, before.Before(w.until))

	// The same when the process itself stood still.
	w.is(w.command, 8, 9)
	w.now = w.now.Add(time.Hour)
	require.Greater(t, w.after(15*time.Second), time.Hour)
}

// TestSettledWaitsForTheOutbox: what was not sent has reached nobody.
func TestSettledWaitsForTheOutbox(t *testing.T) {
	t.Parallel()
	w := newTells(t)
	w.after(5 * time.Second)
	w.unsent = w.now
	require.Equal(t, 40*time.Second, w.after(40*time.Second), "up to when it was written")
	w.unsent = w.now.Add(-10 * time.Second)
	require.Equal(t, 15*time.Second, w.after(5*time.Second))
	require.Equal(t, 2*time.Second, w.after(62*time.Second), "an event that cannot be sent holds nothing up for ever")
	w.unsent = time.Time{}
	require.Equal(t, 2*time.Second, w.after(4*time.Second))
}
