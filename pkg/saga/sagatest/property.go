package sagatest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/pkg/saga"
)

// Property plays random histories of def: replies in any order, duplicated, delayed and lost, cancels, deadlines and
// operators' verbs at any moment. Participants do at most once, refuse to do after an undo, and answer. Whatever happens, once time
// passes and what was lost of an undo is sent again, the saga ends, and every effect is either part of a completed saga
// or was undone exactly once, or at most once where an operator had that skipped. A failure prints its seed.
func Property(t *testing.T, def *saga.Definition) {
	t.Helper()
	t.Run("books balance", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t, def)
			w.decide(saga.Start{At: w.now})
			t.Repeat(map[string]func(*rapid.T){
				"":        func(*rapid.T) {},
				"carry":   w.carryAny,
				"double":  w.doubleAny,
				"lose":    w.loseAny,
				"cancel":  func(*rapid.T) { w.cancel() },
				"wait":    w.wait,
				"timer":   func(*rapid.T) { w.timer() },
				"operate": func(*rapid.T) { w.operate() },
				"restart": func(*rapid.T) { w.decide(saga.Start{At: w.now}) },
			})
			w.settle()
			w.checkBooks()
		})
	})
	t.Run("nonsense is survived", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t, def)
			w.decide(saga.Start{At: w.now})
			for range rapid.IntRange(1, 300).Draw(t, "inputs") {
				w.wait(t)
				w.decide(w.anyInput())
			}
		})
	})
}

// message is a command on its way to a participant, or its answer on the way back.
type message struct {
	command saga.Command
	answer  saga.Outcome // empty: it is the command
	reason  string
}

// participant is a service that keeps its promises: see the package documentation of saga.
type participant struct {
	did, undid int
	failed     bool
	tombstone  bool
}

type world struct {
	t    *rapid.T
	def  *saga.Definition
	s    saga.State
	now  time.Time
	net  []message // under way, in no order
	lost []message
	part map[string]*participant
	// sent counts commands by step, for the rules that the commands must keep.
	sentDo, sentUndo map[string]int
	cancelled        bool // a cancel was accepted
}

func newWorld(t *rapid.T, def *saga.Definition) *world {
	w := &world{
		t: t, def: def, s: saga.New(def, "s", []byte(`{}`)), now: Base,
		part: map[string]*participant{}, sentDo: map[string]int{}, sentUndo: map[string]int{},
	}
	for _, step := range def.Steps {
		w.part[step.Name] = &participant{}
	}
	return w
}

// carryAny hands over any message under way; there is no order among them.
func (w *world) carryAny(t *rapid.T) {
	if len(w.net) == 0 {
		t.Skip("nothing under way")
	}
	w.carry(rapid.IntRange(0, len(w.net)-1).Draw(t, "message"))
}

func (w *world) doubleAny(t *rapid.T) {
	if len(w.net) == 0 {
		t.Skip("nothing under way")
	}
	w.net = append(w.net, rapid.SampledFrom(w.net).Draw(t, "message"))
}

func (w *world) loseAny(t *rapid.T) {
	if len(w.net) == 0 {
		t.Skip("nothing under way")
	}
	i := rapid.IntRange(0, len(w.net)-1).Draw(t, "message")
	w.lost = append(w.lost, w.net[i])
	w.net = slices.Delete(w.net, i, i+1)
}

func (w *world) wait(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(2*w.def.Steps[0].Deadline)).Draw(t, "wait")))
}

// timer fires for any step, due or not.
func (w *world) timer() {
	w.decide(saga.DeadlinePassed{At: w.now, Step: w.anyStep()})
}

func (w *world) cancel() {
	switch err := w.decide(saga.Cancel{At: w.now, Reason: "cancelled", Detail: "asked for"}); {
	case err == nil:
		w.cancelled = true
	default:
		require.ErrorIs(w.t, err, saga.ErrTooLate)
		require.Equal(w.t, saga.Completed, w.s.Status)
	}
}

// operate presses any verb on any step, mostly with the version that is.
func (w *world) operate() {
	in := saga.Intervention{
		At: w.now, Verb: rapid.SampledFrom(saga.Verbs()).Draw(w.t, "verb"), Actor: "ada", Reason: "why",
		Version: w.s.Version - int64(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(w.t, "stale")),
	}
	if in.Verb == saga.VerbSkip {
		in.Step = w.anyStep()
	}
	err := w.decide(in)
	if err == nil {
		after := w.s
		require.NoError(w.t, w.decide(in), "the second press is refused")
		require.Equal(w.t, after, w.s, "the second press changed something")
		w.cancelled = w.cancelled || in.Verb == saga.VerbCompensate
		return
	}
	require.True(w.t, errors.Is(err, saga.ErrStale) || errors.Is(err, saga.ErrRefused), err)
}

func (w *world) anyStep() string {
	return rapid.SampledFrom(w.def.Steps).Draw(w.t, "step").Name
}

func (w *world) anyInput() saga.Input {
	switch rapid.IntRange(0, 10).Draw(w.t, "input") {
	case 10:
		return saga.Intervention{At: w.now, Verb: rapid.SampledFrom(saga.Verbs()).Draw(w.t, "verb"), Step: w.anyStep(), Version: w.s.Version, Actor: "a", Reason: "b"}
	case 0:
		return saga.Cancel{At: w.now, Reason: "cancelled"}
	case 1, 2:
		return saga.DeadlinePassed{At: w.now, Step: w.anyStep()}
	case 3:
		return saga.Start{At: w.now}
	default:
		outcome := rapid.SampledFrom([]saga.Outcome{saga.Done, saga.Failed, saga.Undone}).Draw(w.t, "outcome")
		return saga.Reply{At: w.now, Step: w.anyStep(), Outcome: outcome}
	}
}

func (w *world) carry(i int) {
	m := w.net[i]
	w.net = slices.Delete(w.net, i, i+1)
	if m.answer == "" {
		m.answer, m.reason = w.participate(m.command)
		w.net = append(w.net, m)
		return
	}
	require.NoError(w.t, w.decide(saga.Reply{At: w.now, Step: m.command.Step, Outcome: m.answer, Reason: m.reason}))
}

// participate is a participant's whole logic.
func (w *world) participate(c saga.Command) (saga.Outcome, string) {
	p := w.part[c.Step]
	if c.Kind == saga.Undo {
		p.tombstone = true
		if p.did > p.undid {
			p.undid++
		}
		return saga.Undone, ""
	}
	switch {
	case p.tombstone:
		return saga.Failed, "undone_before"
	case p.failed:
		return saga.Failed, "refused"
	case p.did > 0:
		return saga.Done, ""
	case rapid.IntRange(0, 3).Draw(w.t, "refuses") == 0:
		p.failed = true
		return saga.Failed, "refused"
	}
	p.did++
	return saga.Done, ""
}

// settle lets time pass until the saga has ended: what is under way arrives, timers fire, and when the saga is stuck
// what was lost is sent again.
func (w *world) settle() {
	for turns := 0; !w.s.Status.Terminal(); turns++ {
		require.Less(w.t, turns, 10_000, "the saga does not end: %s", w.s.Status)
		switch deadline := w.s.NextDeadline(); {
		case len(w.net) > 0:
			w.carryAny(w.t)
		case w.s.Status == saga.CompensationFailed:
			require.NotEmpty(w.t, w.lost, "an undo is neither answered nor lost")
			w.net, w.lost = w.lost, nil
		default:
			require.False(w.t, deadline.IsZero(), "nothing will ever move the saga: %s", w.s.Status)
			if deadline.After(w.now) {
				w.now = deadline
			}
			due, ok := w.s.Due(w.now)
			require.True(w.t, ok)
			require.NoError(w.t, w.decide(due))
		}
	}
	// Whatever still arrives, arrives after the end.
	w.net, w.lost = append(w.net, w.lost...), nil
	for len(w.net) > 0 {
		w.carryAny(w.t)
	}
}

func (w *world) checkBooks() {
	if w.cancelled {
		require.Equal(w.t, saga.Compensated, w.s.Status, "a cancel was accepted")
	}
	for _, step := range w.def.Steps {
		p := w.part[step.Name]
		if w.s.Status == saga.Completed {
			require.Equal(w.t, participant{did: 1}, *p, "step %s of a completed saga", step.Name)
			continue
		}
		require.LessOrEqual(w.t, p.did, 1, "step %s was done twice", step.Name)
		if w.s.Steps[w.index(step.Name)].Status == saga.StepUndoSkipped {
			require.LessOrEqual(w.t, p.undid, p.did, "step %s: done against undone", step.Name)
			continue
		}
		require.Equal(w.t, p.did, p.undid, "step %s: done against undone", step.Name)
	}
}

func (w *world) index(step string) int {
	return slices.IndexFunc(w.s.Steps, func(st saga.StepState) bool { return st.Name == step })
}
