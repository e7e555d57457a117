package saga

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Status is where a saga as a whole stands. The zero value is a saga that was not started.
type Status string

// The statuses of a saga; doc.go has the picture.
const (
	Running            Status = "running"
	Compensating       Status = "compensating"
	Completed          Status = "completed"
	Compensated        Status = "compensated"
	CompensationFailed Status = "compensation_failed"
)

// Terminal reports whether the saga has ended. CompensationFailed is not an end: something is still to be undone.
func (s Status) Terminal() bool { return s == Completed || s == Compensated }

// StepStatus is where one step stands.
type StepStatus string

// The statuses of a step.
const (
	StepPending StepStatus = "pending" // its turn has not come
	StepDoing   StepStatus = "doing"   // Do was sent, the answer is awaited
	StepDone    StepStatus = "done"    // its effect is there
	StepFailed  StepStatus = "failed"  // it was refused and has no effect
	StepUndoing StepStatus = "undoing" // Undo was sent, the answer is awaited
	StepUndone  StepStatus = "undone"  // its effect is gone, or never was
	StepSkipped StepStatus = "skipped" // its turn will not come
	// StepUndoSkipped: an operator had its undoing skipped, and its effect may still be there.
	StepUndoSkipped StepStatus = "undo_skipped"
)

// Reasons of a saga that is compensated, beside those of its participants and of who cancels.
const (
	ReasonTimedOut            = "timed_out"             // a step did not answer in time
	ReasonCancelledByOperator = "cancelled_by_operator" // VerbCompensate
)

// State is all that is known of a saga. Times are UTC, in whole microseconds (what PostgreSQL keeps).
type State struct {
	ID                string `json:"id"`
	Definition        string `json:"definition"`
	DefinitionVersion int    `json:"definition_version"`
	// Version is the row's version, 0 before Insert. The store alone changes it.
	Version int64  `json:"-"`
	Status  Status `json:"status,omitempty"`
	// Reason (a code) and Detail (for people) say why compensation began.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Trouble is why the saga is CompensationFailed, empty otherwise.
	Trouble string      `json:"trouble,omitempty"`
	Steps   []StepState `json:"steps"`
	// Journal is what happened, in order, at most MaxJournal entries. When it is full its first half stays, the
	// oldest of the second half goes, and JournalDropped counts it: how a saga began and how it stands matter most.
	Journal        []Entry   `json:"journal,omitempty"`
	JournalDropped int       `json:"journal_dropped,omitempty"`
	StartedAt      time.Time `json:"started_at,omitzero"`
	UpdatedAt      time.Time `json:"updated_at,omitzero"`
	EndedAt        time.Time `json:"ended_at,omitzero"` // set when Status is terminal
	// Data is the caller's own. Decide does not look at it.
	Data json.RawMessage `json:"data,omitempty"`
}

// StepState is what is known of one step.
type StepState struct {
	Name         string     `json:"name"`
	Status       StepStatus `json:"status"`
	Attempts     int        `json:"attempts,omitempty"`      // Do commands sent
	UndoAttempts int        `json:"undo_attempts,omitempty"` // Undo commands sent
	// Retried is the attempt of the command awaited that an operator's last retry sent; 0 if none did.
	Retried int `json:"retried,omitempty"`
	// Outcome is the answer to Do: done, failed, or empty while there is none. It stays empty when the saga went on
	// without one, and then EndedAt is when it stopped waiting.
	Outcome Outcome `json:"outcome,omitempty"`
	Reason  string  `json:"reason,omitempty"` // of a failed step
	Detail  string  `json:"detail,omitempty"`
	// IgnoredReply is the first answer that came when nobody waited for it. One a step is journaled.
	IgnoredReply  Outcome   `json:"ignored_reply,omitempty"`
	StartedAt     time.Time `json:"started_at,omitzero"`
	EndedAt       time.Time `json:"ended_at,omitzero"`
	UndoStartedAt time.Time `json:"undo_started_at,omitzero"`
	UndoEndedAt   time.Time `json:"undo_ended_at,omitzero"`
	// Deadline is when the answer awaited now is given up; zero when none is awaited.
	Deadline time.Time `json:"deadline,omitzero"`
}

// New returns a saga that was not started. id is the caller's and names it for good.
func New(def *Definition, id string, data json.RawMessage) State {
	s := State{ID: id, Definition: def.Name, DefinitionVersion: def.Version, Data: slices.Clone(data)}
	for _, step := range def.Steps {
		s.Steps = append(s.Steps, StepState{Name: step.Name, Status: StepPending})
	}
	return s
}

// Active returns the step whose answer is awaited (also without a deadline, in CompensationFailed); there is at most one.
func (s State) Active() (StepState, bool) {
	if k := s.active(); k >= 0 {
		return s.Steps[k], true
	}
	return StepState{}, false
}

func (s State) active() int {
	return slices.IndexFunc(s.Steps, func(st StepState) bool {
		return st.Status == StepDoing || st.Status == StepUndoing
	})
}

// NextDeadline is when the saga must be looked at although nothing arrived; zero when it waits for nothing.
func (s State) NextDeadline() time.Time {
	step, _ := s.Active()
	return step.Deadline
}

// Due returns the input for a deadline that has passed at now, and whether there is one.
func (s State) Due(now time.Time) (DeadlinePassed, bool) {
	step, ok := s.Active()
	now = instant(now)
	if !ok || step.Deadline.IsZero() || now.Before(step.Deadline) {
		return DeadlinePassed{}, false
	}
	return DeadlinePassed{At: now, Step: step.Name}, true
}

// undoTries counts the Undo commands since the first, or since an operator had it tried anew.
func (st StepState) undoTries() int { return st.UndoAttempts - max(0, st.Retried-1) }

func (s State) clone() State {
	s.Steps = slices.Clone(s.Steps)
	s.Journal = append(make([]Entry, 0, len(s.Journal)+4), s.Journal...) // and room for what a turn notes
	s.Data = slices.Clone(s.Data)
	return s
}

// under refuses a state that was made by another definition: its steps would mean something else.
func (s State) under(def *Definition) error {
	same := s.Definition == def.Name && s.DefinitionVersion == def.Version &&
		slices.EqualFunc(s.Steps, def.Steps, func(a StepState, b Step) bool { return a.Name == b.Name })
	if !same {
		return fault.Permanentf("saga %s: it runs under %s version %d, not under %s version %d",
			s.ID, s.Definition, s.DefinitionVersion, def.Name, def.Version)
	}
	return nil
}

// instant is t as states and databases keep it.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
