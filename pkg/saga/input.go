package saga

import (
	"fmt"
	"time"
)

// Input is something that happened to a saga: Start, Reply, DeadlinePassed, Cancel or Intervention, and nothing else.
// At is when the caller took it up, by the caller's clock; deadlines are counted from it.
type Input interface{ when() time.Time }

// Start begins the saga. A second one changes nothing.
type Start struct{ At time.Time }

// Reply is a participant's answer to a command.
type Reply struct {
	At      time.Time
	Step    string
	Outcome Outcome
	// Reason (a code) and Detail (for people) say why, when Outcome is Failed.
	Reason string
	Detail string
	// MessageID names the message that carried the answer, for the journal.
	MessageID string
}

// DeadlinePassed says that a step's deadline may have passed. It changes nothing unless the step is still waiting and
// At is at or after its deadline, so it may be given too early, twice, or by several replicas.
type DeadlinePassed struct {
	At   time.Time
	Step string
}

// Cancel asks for everything to be undone.
type Cancel struct {
	At     time.Time
	Reason string
	Detail string
}

func (in Start) when() time.Time          { return in.At }
func (in Reply) when() time.Time          { return in.At }
func (in DeadlinePassed) when() time.Time { return in.At }
func (in Cancel) when() time.Time         { return in.At }

// Outcome is what a participant answers.
type Outcome string

// The answers of a participant.
const (
	// Done: the step's effect is there.
	Done Outcome = "done"
	// Failed: the step was refused and has no effect; there is nothing to undo.
	Failed Outcome = "failed"
	// Undone: the step has no effect any more, or never had one, and will never have one.
	Undone Outcome = "undone"
)

// CommandKind is what a command asks of a participant.
type CommandKind string

// What a participant can be asked.
const (
	Do   CommandKind = "do"
	Undo CommandKind = "undo"
)

// Command is what the caller must now tell a participant, in the transaction that saves the state.
type Command struct {
	Step string
	Kind CommandKind
	// Attempt counts from 1. Do is sent once, and again when an operator retries; Undo for as long as no answer comes.
	Attempt int
	// Reason is why the saga is being compensated; empty with Do.
	Reason string
}

// String is the command for people: "undo second (attempt 2): timed_out".
func (c Command) String() string {
	text := fmt.Sprintf("%s %s (attempt %d)", c.Kind, c.Step, c.Attempt)
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}
