package sagatest

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/saga"
)

// moves are the statuses that may follow each other in one turn; staying is always allowed. Several happen in one
// turn when nothing has to be waited for.
var moves = map[saga.Status][]saga.Status{
	"":                      {saga.Running},
	saga.Running:            {saga.Compensating, saga.Completed, saga.Compensated},
	saga.Compensating:       {saga.CompensationFailed, saga.Compensated},
	saga.CompensationFailed: {saga.Compensating, saga.Compensated},
}

// decide makes a turn, checks what must hold of every turn whatever the input, and puts its commands under way.
func (w *world) decide(in saga.Input) error {
	before, arg := w.snapshot(), w.s
	next, commands, err := saga.Decide(w.def, arg, in)
	again, sameCommands, _ := saga.Decide(w.def, arg, in)
	require.Equal(w.t, before, w.snapshot(), "Decide changed its argument")
	require.Equal(w.t, next, again, "Decide is no function")
	require.Equal(w.t, commands, sameCommands, "Decide is no function")

	if before.Status != next.Status {
		require.Contains(w.t, moves[before.Status], next.Status, "from %s", before.Status)
	}
	if err != nil || before.Status.Terminal() {
		require.Empty(w.t, commands)
	}
	if !counts(before, in) {
		require.Empty(w.t, commands, "an input that nobody waits for was followed")
		require.Equal(w.t, before.Status, next.Status, "an input that nobody waits for was followed")
		_, cancel := in.(saga.Cancel)
		require.Equal(w.t, cancel && before.Status == saga.Completed, errors.Is(err, saga.ErrTooLate))
	}
	if in, is := in.(saga.Intervention); is && err == nil && len(commands) > 0 {
		require.Equal(w.t, before.Version, in.Version, "a stale word was followed")
	}
	for _, c := range commands {
		w.checkCommand(next, c)
		w.net = append(w.net, message{command: c})
	}
	checkState(w, next)

	// What is stored is all there is: a state survives its row.
	text, jsonErr := json.Marshal(next)
	require.NoError(w.t, jsonErr)
	var stored saga.State
	require.NoError(w.t, json.Unmarshal(text, &stored))
	stored.Version = next.Version // the row's own
	require.Equal(w.t, next, stored)

	w.s = saved(before, next)
	return err
}

// counts reports whether an input may decide anything in a state. It says again, in few words, what Decide must ignore.
func counts(s saga.State, in saga.Input) bool {
	active, waiting := s.Active()
	switch in := in.(type) {
	case saga.Start:
		return s.Status == ""
	case saga.Cancel:
		return s.Status == saga.Running
	case saga.Intervention:
		switch in.Verb {
		case saga.VerbRetry:
			return waiting && in.Version == s.Version
		case saga.VerbSkip:
			return active.Status == saga.StepUndoing && in.Step == active.Name && in.Version == s.Version
		default:
			return s.Status == saga.Running && in.Version == s.Version
		}
	case saga.DeadlinePassed:
		return waiting && in.Step == active.Name && !active.Deadline.IsZero() && !in.At.Before(active.Deadline)
	case saga.Reply:
		return waiting && in.Step == active.Name && (in.Outcome == saga.Undone) == (active.Status == saga.StepUndoing)
	}
	return false
}

func (w *world) snapshot() saga.State {
	s := w.s
	s.Steps, s.Journal, s.Data = slices.Clone(s.Steps), slices.Clone(s.Journal), slices.Clone(s.Data)
	return s
}

func (w *world) checkCommand(s saga.State, c saga.Command) {
	k := slices.IndexFunc(s.Steps, func(st saga.StepState) bool { return st.Name == c.Step })
	switch c.Kind {
	case saga.Do:
		w.sentDo[c.Step]++
		require.Equal(w.t, saga.Running, s.Status)
		require.Equal(w.t, c.Attempt, w.sentDo[c.Step])
		require.True(w.t, c.Attempt == 1 || s.Steps[k].Retried == c.Attempt, "do %s was sent twice, and nobody asked for it", c.Step)
		for _, earlier := range s.Steps[:k] {
			require.Equal(w.t, saga.StepDone, earlier.Status, "do %s was sent before %s was done", c.Step, earlier.Name)
		}
	case saga.Undo:
		w.sentUndo[c.Step]++
		require.Equal(w.t, saga.Compensating, s.Status)
		require.Equal(w.t, c.Attempt, w.sentUndo[c.Step])
		require.LessOrEqual(w.t, c.Attempt-max(0, s.Steps[k].Retried-1), w.def.Steps[k].MaxUndoAttempts)
		require.Positive(w.t, w.sentDo[c.Step], "undo %s was sent, and do never", c.Step)
		require.NotEqual(w.t, saga.Failed, s.Steps[k].Outcome, "undo %s was sent, and it did nothing", c.Step)
		for _, later := range s.Steps[k+1:] {
			require.Contains(w.t, []saga.StepStatus{saga.StepUndone, saga.StepFailed, saga.StepSkipped, saga.StepUndoSkipped}, later.Status,
				"undo %s was sent while %s still stood", c.Step, later.Name)
		}
	}
}

func checkState(w *world, s saga.State) {
	count := map[saga.StepStatus]int{}
	for _, step := range s.Steps {
		count[step.Status]++
	}
	waiting := count[saga.StepDoing] + count[saga.StepUndoing]
	require.LessOrEqual(w.t, len(s.Journal), saga.MaxJournal)
	require.Equal(w.t, s.Status.Terminal(), !s.EndedAt.IsZero())
	require.Equal(w.t, s.Status == saga.CompensationFailed, s.Trouble != "")
	switch s.Status {
	case saga.Running:
		require.Equal(w.t, 1, count[saga.StepDoing])
	case saga.Compensating, saga.CompensationFailed:
		require.Equal(w.t, 1, count[saga.StepUndoing])
	}
	if s.Status.Terminal() {
		require.Zero(w.t, waiting)
	} else {
		require.Equal(w.t, 1, waiting, "exactly one answer is awaited")
	}
	awaited := s.Status == saga.Running || s.Status == saga.Compensating
	require.Equal(w.t, awaited, !s.NextDeadline().IsZero(), "only and always what is awaited has a deadline")
}
