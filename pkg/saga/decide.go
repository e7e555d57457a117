package saga

import (
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Refusals of Decide. All are permanent; those of an Intervention stand in intervene.go.
var (
	// ErrTooLate: a completed saga cannot be cancelled.
	ErrTooLate = fault.Permanentf("saga: too late to cancel, it is completed")
	// ErrNotStarted: the first input must be Start.
	ErrNotStarted = fault.Permanentf("saga: it was not started")
)

// Decide says what a saga makes of an input: its next state, and the commands to send in that order. It reads no
// clock, changes nothing that it was given, and given the same again returns the same. With an error the state is
// returned as it was. An input that changes nothing returns an equal state and no commands.
func Decide(def *Definition, s State, in Input) (State, []Command, error) {
	if err := s.under(def); err != nil {
		return s, nil, err
	}
	if _, ok := in.(Start); !ok && s.Status == "" {
		return s, nil, ErrNotStarted
	}
	var err error
	t := &turn{def: def, s: s.clone(), at: instant(in.when())}
	switch in := in.(type) {
	case Start:
		t.start()
	case Reply:
		err = t.reply(in)
	case DeadlinePassed:
		err = t.deadlinePassed(in)
	case Cancel:
		err = t.cancel(in)
	case Intervention:
		err = t.intervene(in)
	default: // a pointer to an input
		err = fault.Permanentf("saga %s: %T is no input", s.ID, in)
	}
	if err != nil {
		return s, nil, err
	}
	return t.s, t.commands, nil
}

// turn is one input being worked on: s is ours to change.
type turn struct {
	def      *Definition
	s        State
	at       time.Time
	commands []Command
}

func (t *turn) start() {
	if t.s.Status != "" {
		return
	}
	t.s.Status, t.s.StartedAt = Running, t.at
	t.note(Entry{Kind: EntryStarted})
	t.do(0)
}

func (t *turn) reply(in Reply) error {
	k, err := t.step(in.Step)
	if err != nil {
		return err
	}
	switch in.Outcome {
	case Done, Failed, Undone:
	default:
		return fault.Permanentf("saga %s: step %q answered %q: done, failed or undone are allowed", t.s.ID, in.Step, in.Outcome)
	}
	step := &t.s.Steps[k]
	entry := Entry{Kind: EntryReply, Step: in.Step, Outcome: in.Outcome, Reason: in.Reason, Detail: in.Detail, MessageID: in.MessageID}

	switch {
	case step.Status == StepDoing && in.Outcome == Done:
		t.note(entry)
		step.Outcome = Done
		t.endDo(k, StepDone)
		t.do(k + 1)

	case step.Status == StepDoing && in.Outcome == Failed:
		t.note(entry)
		step.Outcome, step.Reason, step.Detail = Failed, clip(in.Reason), clip(in.Detail)
		t.endDo(k, StepFailed)
		// It did nothing, so there is nothing of its own to undo.
		t.compensate(k-1, in.Reason, in.Detail)

	case step.Status == StepUndoing && in.Outcome == Undone:
		t.note(entry)
		step.Status, step.UndoEndedAt, step.Deadline = StepUndone, t.at, time.Time{}
		t.resume(k)
		t.undo(k - 1)

	case step.Outcome == in.Outcome, step.Status == StepUndone && in.Outcome == Undone:
		// A duplicate of an answer that was taken.

	case step.IgnoredReply == "":
		// Nobody waits for it. A Done or Failed that comes while the step is being undone or afterwards decides
		// nothing: the Undo that was sent covers both, and only its answer counts.
		entry.Kind = EntryLateReply
		if step.Attempts == 0 || in.Outcome == Undone && step.Status != StepUndoSkipped {
			entry.Kind = EntryUnexpectedReply
		}
		step.IgnoredReply = in.Outcome
		t.note(entry)
	}
	return nil
}

func (t *turn) deadlinePassed(in DeadlinePassed) error {
	k, err := t.step(in.Step)
	if err != nil {
		return err
	}
	step := &t.s.Steps[k]
	if step.Deadline.IsZero() || t.at.Before(step.Deadline) {
		return nil // answered meanwhile, taken up by another replica, or not yet due
	}
	switch step.Status {
	case StepDoing:
		t.note(Entry{Kind: EntryDeadlinePassed, Step: in.Step, Command: Do, Attempt: step.Attempts})
		detail := fmt.Sprintf("step %s did not answer within %s", in.Step, t.def.Steps[k].Deadline)
		t.endDo(k, StepDoing)
		// Whether it did anything is unknown, so compensation begins with the step itself.
		t.compensate(k, ReasonTimedOut, detail)

	case StepUndoing:
		t.note(Entry{Kind: EntryDeadlinePassed, Step: in.Step, Command: Undo, Attempt: step.UndoAttempts})
		if step.undoTries() < t.def.Steps[k].MaxUndoAttempts {
			t.sendUndo(k)
			return nil
		}
		step.Deadline = time.Time{}
		t.s.Status = CompensationFailed
		t.s.Trouble = fmt.Sprintf("step %s did not answer to %d undo commands", in.Step, step.UndoAttempts)
		t.note(Entry{Kind: EntryCompensationFailed, Step: in.Step, Detail: t.s.Trouble})
	}
	return nil
}

func (t *turn) cancel(in Cancel) error {
	switch t.s.Status {
	case Completed:
		return ErrTooLate
	case Running:
		t.note(Entry{Kind: EntryCancelRequested, Reason: in.Reason, Detail: in.Detail})
		t.giveUp(in.Reason, in.Detail)
	}
	return nil // otherwise everything is being undone, or has been, already
}

// giveUp turns a running saga round. It always has a step in flight, which as with a deadline may have been done or not.
func (t *turn) giveUp(reason, detail string) {
	k := t.s.active()
	t.endDo(k, StepDoing)
	t.compensate(k, reason, detail)
}

// do begins step k, or completes the saga when there are no more.
func (t *turn) do(k int) {
	if k == len(t.s.Steps) {
		t.finish(Completed)
		return
	}
	t.s.Steps[k].Status, t.s.Steps[k].StartedAt = StepDoing, t.at
	t.sendDo(k)
}

func (t *turn) sendDo(k int) {
	step := &t.s.Steps[k]
	step.Attempts++
	step.Deadline = t.at.Add(t.def.Steps[k].Deadline)
	t.send(Command{Step: step.Name, Kind: Do, Attempt: step.Attempts})
}

// endDo stops waiting for the answer to Do.
func (t *turn) endDo(k int, status StepStatus) {
	step := &t.s.Steps[k]
	step.Status, step.EndedAt, step.Deadline = status, t.at, time.Time{}
}

// compensate turns the saga round: step k and those before it are undone in reverse, those not begun are skipped.
func (t *turn) compensate(k int, reason, detail string) {
	t.s.Status, t.s.Reason, t.s.Detail = Compensating, clip(reason), clip(detail)
	for i := range t.s.Steps {
		if t.s.Steps[i].Status == StepPending {
			t.s.Steps[i].Status = StepSkipped
		}
	}
	t.note(Entry{Kind: EntryCompensationStarted, Reason: reason, Detail: detail})
	t.undo(k)
}

// undo begins to undo step k, or ends the saga when there are no more.
func (t *turn) undo(k int) {
	if k < 0 {
		t.finish(Compensated)
		return
	}
	step := &t.s.Steps[k]
	step.Status, step.UndoStartedAt, step.Retried = StepUndoing, t.at, 0
	t.sendUndo(k)
}

func (t *turn) sendUndo(k int) {
	step := &t.s.Steps[k]
	step.UndoAttempts++
	step.Deadline = t.at.Add(t.def.Steps[k].undoWait(step.undoTries()))
	t.send(Command{Step: step.Name, Kind: Undo, Attempt: step.UndoAttempts, Reason: t.s.Reason})
}

// resume takes a saga whose compensation had failed back to compensating, at step k.
func (t *turn) resume(k int) {
	if t.s.Status == CompensationFailed {
		t.s.Status, t.s.Trouble = Compensating, ""
		t.note(Entry{Kind: EntryCompensationResumed, Step: t.s.Steps[k].Name})
	}
}

func (t *turn) finish(status Status) {
	t.s.Status, t.s.EndedAt = status, t.at
	t.note(Entry{Kind: EntryFinished, Status: status, Reason: t.s.Reason})
}

func (t *turn) send(c Command) {
	t.commands = append(t.commands, c)
	t.note(Entry{Kind: EntryCommandSent, Step: c.Step, Command: c.Kind, Attempt: c.Attempt, Reason: c.Reason})
}

// note adds to the journal. Every change of a state comes with one.
func (t *turn) note(e Entry) {
	e.At, e.Reason, e.Detail, e.MessageID, e.Actor = t.at, clip(e.Reason), clip(e.Detail), clip(e.MessageID), clip(e.Actor)
	t.s.UpdatedAt = t.at
	t.s.Journal = append(t.s.Journal, e)
	if len(t.s.Journal) > MaxJournal {
		t.s.Journal = slices.Delete(t.s.Journal, MaxJournal/2, MaxJournal/2+1)
		t.s.JournalDropped++
	}
}

func (t *turn) step(name string) (int, error) {
	k := t.def.index(name)
	if k < 0 {
		return k, fault.Permanentf("saga %s: %s has no step %q", t.s.ID, t.def.Name, name)
	}
	return k, nil
}
