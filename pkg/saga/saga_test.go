package saga_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
)

func threeSteps(t testing.TB) *saga.Definition {
	t.Helper()
	def, err := saga.NewDefinition("three", 1,
		saga.Step{Name: "first", Deadline: 30 * time.Second, UndoDeadline: 10 * time.Second, MaxUndoAttempts: 3},
		saga.Step{Name: "second", Deadline: 60 * time.Second, UndoDeadline: 10 * time.Second, MaxUndoAttempts: 3},
		saga.Step{Name: "third", Deadline: 90 * time.Second, UndoDeadline: 10 * time.Second, MaxUndoAttempts: 1},
	)
	require.NoError(t, err)
	return def
}

// fourSteps is the second version of threeSteps.
func fourSteps(t testing.TB) *saga.Definition {
	t.Helper()
	def, err := saga.NewDefinition("three", 2, append([]saga.Step{
		{Name: "check", Deadline: 30 * time.Second, UndoDeadline: 10 * time.Second, MaxUndoAttempts: 3},
	}, threeSteps(t).Steps...)...)
	require.NoError(t, err)
	return def
}

// TestGolden plays the histories of both versions: the first one's are what they were before there was a second.
func TestGolden(t *testing.T) {
	t.Parallel()
	sagatest.Golden(t, "testdata", threeSteps(t), fourSteps(t))
}

func TestProperty(t *testing.T) {
	t.Parallel()
	sagatest.Property(t, threeSteps(t))
}

func TestPropertyOneStep(t *testing.T) {
	t.Parallel()
	def, err := saga.NewDefinition("one", 1, saga.Step{Name: "only", Deadline: time.Second, UndoDeadline: time.Second, MaxUndoAttempts: 2})
	require.NoError(t, err)
	sagatest.Property(t, def)
}

func TestDefinitionSaysEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := saga.NewDefinition("", 0,
		saga.Step{Name: "a", Deadline: time.Second, UndoDeadline: time.Second, MaxUndoAttempts: 1},
		saga.Step{Name: "a", Deadline: 0, UndoDeadline: -1, MaxUndoAttempts: 21},
		saga.Step{Deadline: time.Second, UndoDeadline: time.Second, MaxUndoAttempts: 1},
	)
	require.Equal(t, fault.Permanent, fault.KindOf(err))
	for _, part := range []string{
		"needs a name", "version 0", `the name "a" is taken`, "deadline 0s must be positive", "undo deadline -1ns must be positive",
		"21 undo attempts", "step 2 needs a name",
	} {
		require.ErrorContains(t, err, part)
	}
	_, err = saga.NewDefinition("none", 1)
	require.ErrorContains(t, err, "0 steps")
}

func TestDecideRefusesAForeignState(t *testing.T) {
	t.Parallel()
	def := threeSteps(t)
	s := saga.New(def, "s", nil)
	other := *def
	other.Version = 2
	_, _, err := saga.Decide(&other, s, saga.Start{})
	require.ErrorContains(t, err, "runs under three version 1, not under three version 2")
	require.Equal(t, fault.Permanent, fault.KindOf(err))
}

func TestUndoWaitsTwiceAsLongEachTimeUpToAnHour(t *testing.T) {
	t.Parallel()
	def, err := saga.NewDefinition("slow", 1, saga.Step{Name: "only", Deadline: time.Second, UndoDeadline: 20 * time.Minute, MaxUndoAttempts: 20})
	require.NoError(t, err)
	s, _, err := saga.Decide(def, saga.New(def, "s", nil), saga.Start{At: sagatest.Base})
	require.NoError(t, err)
	var waits []time.Duration
	for now := s.NextDeadline(); ; now = s.NextDeadline() {
		due, ok := s.Due(now)
		require.True(t, ok)
		s, _, err = saga.Decide(def, s, due)
		require.NoError(t, err)
		if s.Status == saga.CompensationFailed {
			break
		}
		waits = append(waits, s.NextDeadline().Sub(now))
	}
	require.Len(t, waits, 20)
	require.Equal(t, []time.Duration{20 * time.Minute, 40 * time.Minute, time.Hour, time.Hour}, waits[:4])
	_, ok := s.Due(sagatest.Base.Add(1000 * time.Hour))
	require.False(t, ok, "a stuck saga has no deadline")
}

func TestJournalKeepsItsBeginningAndItsEnd(t *testing.T) {
	t.Parallel()
	steps := make([]saga.Step, saga.MaxSteps)
	for i := range steps {
		steps[i] = saga.Step{Name: string(rune('A' + i)), Deadline: time.Second, UndoDeadline: time.Second, MaxUndoAttempts: 20}
	}
	def, err := saga.NewDefinition("long", 1, steps...)
	require.NoError(t, err)
	s := saga.New(def, "s", nil)
	decide := func(in saga.Input) {
		t.Helper()
		s, _, err = saga.Decide(def, s, in)
		require.NoError(t, err)
	}
	decide(saga.Start{At: sagatest.Base})
	for _, step := range steps[:saga.MaxSteps-1] {
		decide(saga.Reply{At: sagatest.Base, Step: step.Name, Outcome: saga.Done})
	}
	decide(saga.Cancel{At: sagatest.Base, Reason: "cancelled"})
	for !s.Status.Terminal() {
		step, _ := s.Active()
		if step.UndoAttempts < 10 {
			decide(saga.DeadlinePassed{At: s.NextDeadline(), Step: step.Name})
			continue
		}
		decide(saga.Reply{At: sagatest.Base, Step: step.Name, Outcome: saga.Undone})
	}
	require.Len(t, s.Journal, saga.MaxJournal)
	require.Positive(t, s.JournalDropped)
	require.Equal(t, saga.EntryStarted, s.Journal[0].Kind)
	require.Equal(t, saga.EntryFinished, s.Journal[saga.MaxJournal-1].Kind)
}

func TestTextsFromOutsideAreBounded(t *testing.T) {
	t.Parallel()
	def := threeSteps(t)
	s, _, err := saga.Decide(def, saga.New(def, "s", nil), saga.Start{At: sagatest.Base})
	require.NoError(t, err)
	long := make([]rune, 1000)
	for i := range long {
		long[i] = 'é'
	}
	s, commands, err := saga.Decide(def, s, saga.Cancel{At: sagatest.Base, Reason: "x" + string(long), Detail: string(long)})
	require.NoError(t, err)
	require.Len(t, s.Reason, 499, "no character is cut in two")
	require.Len(t, s.Detail, 500)
	require.Equal(t, s.Reason, commands[0].Reason)
}
