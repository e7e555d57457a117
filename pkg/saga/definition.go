package saga

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Limits of a definition. They bound the journal and the size of a stored state.
const (
	MaxSteps        = 32
	MaxUndoAttempts = 20
)

// Definition is the plan of one kind of saga: its steps in order. It does not change once sagas have been started
// under it; a changed plan is a new Version beside the old one.
type Definition struct {
	Name    string
	Version int
	Steps   []Step
}

// Step is one thing that a participant does, and can undo.
type Step struct {
	Name string
	// Deadline is how long the saga waits for the answer to Do before it gives up and compensates.
	Deadline time.Duration
	// UndoDeadline is how long it waits for the answer to the first Undo. Each further Undo waits twice as long,
	// up to an hour (or UndoDeadline, if that is longer).
	UndoDeadline time.Duration
	// MaxUndoAttempts is how many Undo commands are sent before the saga is CompensationFailed, 1 to 20.
	MaxUndoAttempts int
}

// NewDefinition returns a validated definition, or an error that lists every mistake.
func NewDefinition(name string, version int, steps ...Step) (*Definition, error) {
	d := &Definition{Name: name, Version: version, Steps: slices.Clone(steps)}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// Validate says everything that is wrong with the definition, at once. The error is permanent.
func (d *Definition) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Name == "" {
		wrong("it needs a name")
	}
	if d.Version < 1 {
		wrong("version %d: it must be 1 or more", d.Version)
	}
	if n := len(d.Steps); n < 1 || n > MaxSteps {
		wrong("%d steps: 1 to %d are allowed", n, MaxSteps)
	}
	seen := make(map[string]bool, len(d.Steps))
	for i, s := range d.Steps {
		switch {
		case s.Name == "":
			wrong("step %d needs a name", i)
		case seen[s.Name]:
			wrong("step %d: the name %q is taken", i, s.Name)
		}
		seen[s.Name] = true
		if s.Deadline <= 0 {
			wrong("step %q: deadline %s must be positive", s.Name, s.Deadline)
		}
		if s.UndoDeadline <= 0 {
			wrong("step %q: undo deadline %s must be positive", s.Name, s.UndoDeadline)
		}
		if s.MaxUndoAttempts < 1 || s.MaxUndoAttempts > MaxUndoAttempts {
			wrong("step %q: %d undo attempts: 1 to %d are allowed", s.Name, s.MaxUndoAttempts, MaxUndoAttempts)
		}
	}
	if len(errs) > 0 {
		return fault.Permanentf("saga definition %q: %w", d.Name, errors.Join(errs...))
	}
	return nil
}

// index returns the place of a step, -1 when there is none of that name.
func (d *Definition) index(step string) int {
	return slices.IndexFunc(d.Steps, func(s Step) bool { return s.Name == step })
}

// longestUndoWait stops the doubling of an undo's deadline.
const longestUndoWait = time.Hour

// undoWait is how long to wait for an answer to the given Undo attempt, counted from 1.
func (s Step) undoWait(attempt int) time.Duration {
	wait, longest := s.UndoDeadline, max(s.UndoDeadline, longestUndoWait)
	for range attempt - 1 {
		if wait *= 2; wait >= longest {
			return longest
		}
	}
	return wait
}
