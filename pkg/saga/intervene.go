package saga

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Verb is what an operator may have a saga do.
type Verb string

// The verbs of an operator.
const (
	// VerbRetry sends the command whose answer is awaited once more. Its deadline begins anew, and an Undo is then tried as
	// often as at first.
	VerbRetry Verb = "retry"
	// VerbSkip goes on with the compensation without the step that is being undone: whoever asks has seen to its effect,
	// or lets it stand. A step that is being done cannot be skipped, because those after it rely on its effect.
	VerbSkip Verb = "skip"
	// VerbCompensate has everything undone that was done. A saga that has completed is not undone any more.
	VerbCompensate Verb = "compensate"
)

// Verbs returns every verb.
func Verbs() []Verb { return []Verb{VerbRetry, VerbSkip, VerbCompensate} }

// Intervention is an operator's word. It is taken once however often it comes: a second one of the same verb on the
// same version changes nothing, and neither does one whose effect is there already. One on a version that is past is
// ErrStale, and one that the saga's state does not allow is ErrRefused.
type Intervention struct {
	At   time.Time
	Verb Verb
	// Step is the step that VerbSkip skips. The other verbs need none.
	Step string
	// Version is the saga's version that the operator has seen.
	Version int64
	// Actor and Reason say who asks, and why. They are for the journal.
	Actor, Reason string
}

func (in Intervention) when() time.Time { return in.At }

// Refusals of an Intervention. All are permanent.
var (
	ErrStale   = fault.Permanentf("the saga has changed since")
	ErrRefused = fault.Permanentf("the saga's state does not allow this")
	// ErrNoStep: the definition has no step of that name.
	ErrNoStep = fault.Permanentf("the saga has no step")
)

func refusedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func (t *turn) intervene(in Intervention) error {
	if in.Actor == "" || in.Reason == "" {
		return refusedf("an actor and a reason are wanted")
	}
	if slices.ContainsFunc(t.s.Journal, func(e Entry) bool {
		return e.Kind == EntryOperator && e.Verb == in.Verb && e.Version == in.Version && (in.Step == "" || e.Step == in.Step)
	}) {
		return nil // it was pressed twice
	}
	if in.Version != t.s.Version {
		return fmt.Errorf("%w: it is at version %d, not %d", ErrStale, t.s.Version, in.Version)
	}
	switch in.Verb {
	case VerbRetry:
		return t.retry(in)
	case VerbSkip:
		return t.skip(in)
	case VerbCompensate:
		switch t.s.Status {
		case Completed:
			return refusedf("it is completed, and what was done stands")
		case Running:
			t.noteOperator(in, "")
			t.giveUp(ReasonCancelledByOperator, "")
		}
		return nil // otherwise everything is being undone, or has been, already
	}
	return refusedf("there is no verb %q: retry, skip and compensate are allowed", in.Verb)
}

func (t *turn) retry(in Intervention) error {
	k := t.s.active()
	if k < 0 {
		return refusedf("it is %s, and no answer is awaited", t.s.Status)
	}
	step := &t.s.Steps[k]
	attempts, send := &step.Attempts, t.sendDo
	if step.Status == StepUndoing {
		attempts, send = &step.UndoAttempts, t.sendUndo
	}
	if step.Retried == *attempts && !step.Deadline.IsZero() {
		return nil // it was sent at an operator's word, and may still be answered
	}
	t.noteOperator(in, step.Name)
	t.resume(k)
	step.Retried = *attempts + 1
	send(k)
	return nil
}

func (t *turn) skip(in Intervention) error {
	k := t.def.index(in.Step)
	if k < 0 {
		names := make([]string, len(t.def.Steps))
		for i, step := range t.def.Steps {
			names[i] = step.Name
		}
		return fmt.Errorf("%w %q: its steps are %s", ErrNoStep, in.Step, strings.Join(names, ", "))
	}
	step := &t.s.Steps[k]
	switch step.Status {
	case StepUndoSkipped:
		return nil
	case StepUndoing:
	case StepDoing:
		return refusedf("step %s is being done, and the steps after it rely on it: retry it, or compensate", in.Step)
	default:
		return refusedf("step %s is %s: only a step that is being undone can be skipped", in.Step, step.Status)
	}
	t.noteOperator(in, step.Name)
	t.resume(k)
	step.Status, step.UndoEndedAt, step.Deadline = StepUndoSkipped, t.at, time.Time{}
	t.undo(k - 1)
	return nil
}

func (t *turn) noteOperator(in Intervention, step string) {
	t.note(Entry{
		Kind: EntryOperator, Verb: in.Verb, Step: step, Version: in.Version, Actor: in.Actor, Reason: in.Reason,
	})
}

// Offer is what an operator may do with a saga as it stands, and what would come of it.
type Offer struct {
	Verb     Verb
	Step     string
	Commands []Command
	Status   Status
}

// offers are the interventions that would change a saga now. They are found by trying.
func offers(def *Definition, s State, at time.Time) []Offer {
	var all []Offer
	active, _ := s.Active()
	for _, verb := range Verbs() {
		in := Intervention{At: at, Verb: verb, Step: active.Name, Version: s.Version, Actor: "-", Reason: "-"}
		if next, commands, err := Decide(def, s, in); err == nil && next.changedSince(s) {
			all = append(all, Offer{Verb: verb, Step: active.Name, Commands: commands, Status: next.Status})
		}
	}
	return all
}
