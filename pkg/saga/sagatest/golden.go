package sagatest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/saga"
)

var update = flag.Bool("update", false, "rewrite what golden histories say happened, keeping their inputs")

// Base is the instant that a history's "at" is counted from.
var Base = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// History is one golden file. A person writes About, Definition, Version and the inputs; the rest is filled in by a
// run with -update and must then be read before it is kept.
type History struct {
	About      string `json:"about"`
	Definition string `json:"definition"`
	Version    int    `json:"version"`
	Turns      []Turn `json:"turns"`
}

// Turn is one input and what came of it.
type Turn struct {
	Input    Input       `json:"input"`
	Error    string      `json:"error,omitempty"`
	Commands []string    `json:"commands,omitempty"`
	Status   saga.Status `json:"status"`
	Reason   string      `json:"reason,omitempty"`
	Trouble  string      `json:"trouble,omitempty"`
	Steps    []string    `json:"steps"`
	// Journal is what this turn added to it.
	Journal []string `json:"journal,omitempty"`
}

// Input is a saga.Input in JSON. Kind is start, reply, deadline_passed, cancel, or an operator's verb; At is a duration since Base
// ("1m30s"). A verb's version is counted as the store counts: 1 once the saga is started, one more with every turn that
// changed it.
type Input struct {
	Kind      string       `json:"kind"`
	At        string       `json:"at"`
	Step      string       `json:"step,omitempty"`
	Outcome   saga.Outcome `json:"outcome,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Detail    string       `json:"detail,omitempty"`
	MessageID string       `json:"message_id,omitempty"`
	Actor     string       `json:"actor,omitempty"`
	Version   int64        `json:"version,omitempty"`
}

// Golden plays every history (*.json) in dir under the definition of its name and version, and fails where what
// happens is not what the file says. With -update it rewrites the files instead. A definition without a history is a
// mistake: those of old versions stay in the folder.
func Golden(t *testing.T, dir string, defs ...*saga.Definition) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no histories in %s", dir)
	told := map[string]bool{}
	for _, file := range files {
		told[definitionOf(t, file)] = true
	}
	for _, def := range defs {
		require.True(t, told[name(def.Name, def.Version)], "no history of %s in %s", name(def.Name, def.Version), dir)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			got := replay(t, want, defs)
			if *update {
				require.NoError(t, os.WriteFile(file, got, 0o644))
				return
			}
			require.Equal(t, string(want), string(got), "run with -update and read what changed")
		})
	}
}

func name(definition string, version int) string {
	return fmt.Sprintf("%s version %d", definition, version)
}

func definitionOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var h History
	require.NoError(t, json.Unmarshal(text, &h), file)
	return name(h.Definition, h.Version)
}

// replay plays a history's inputs and returns the history as it went.
func replay(t *testing.T, file []byte, defs []*saga.Definition) []byte {
	t.Helper()
	var h History
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&h))
	def := pick(t, h, defs)

	s := saga.New(def, "golden", nil)
	for i := range h.Turns {
		in, err := h.Turns[i].Input.decode()
		require.NoError(t, err, "turn %d", i)
		next, commands, err := saga.Decide(def, s, in)
		h.Turns[i] = turn(h.Turns[i].Input, s, next, commands, err)
		s = saved(s, next)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(h))
	return out.Bytes()
}

// saved is a state as the store would have it after a turn.
func saved(before, after saga.State) saga.State {
	if len(after.Journal) != len(before.Journal) || after.JournalDropped != before.JournalDropped {
		after.Version++
	}
	return after
}

func pick(t *testing.T, h History, defs []*saga.Definition) *saga.Definition {
	t.Helper()
	for _, d := range defs {
		if d.Name == h.Definition && d.Version == h.Version {
			return d
		}
	}
	require.FailNow(t, "no such definition", "%s version %d", h.Definition, h.Version)
	return nil
}

func (in Input) decode() (saga.Input, error) {
	after, err := time.ParseDuration(in.At)
	if err != nil {
		return nil, err
	}
	at := Base.Add(after)
	switch in.Kind {
	case "start":
		return saga.Start{At: at}, nil
	case "reply":
		return saga.Reply{At: at, Step: in.Step, Outcome: in.Outcome, Reason: in.Reason, Detail: in.Detail, MessageID: in.MessageID}, nil
	case "deadline_passed":
		return saga.DeadlinePassed{At: at, Step: in.Step}, nil
	case "cancel":
		return saga.Cancel{At: at, Reason: in.Reason, Detail: in.Detail}, nil
	case string(saga.VerbRetry), string(saga.VerbSkip), string(saga.VerbCompensate):
		return saga.Intervention{At: at, Verb: saga.Verb(in.Kind), Step: in.Step, Version: in.Version, Actor: in.Actor, Reason: in.Reason}, nil
	}
	return nil, fmt.Errorf("input kind %q: start, reply, deadline_passed, cancel and %v are allowed", in.Kind, saga.Verbs())
}

func turn(in Input, before, after saga.State, commands []saga.Command, err error) Turn {
	out := Turn{Input: in, Status: after.Status, Trouble: after.Trouble}
	if err != nil {
		out.Error = err.Error()
	}
	if after.Reason != "" {
		out.Reason = after.Reason + ": " + after.Detail
	}
	for _, c := range commands {
		out.Commands = append(out.Commands, c.String())
	}
	for _, step := range after.Steps {
		text := step.Name + ": " + string(step.Status)
		if !step.Deadline.IsZero() {
			text += " until " + step.Deadline.Sub(Base).String()
		}
		out.Steps = append(out.Steps, text)
	}
	for _, e := range after.Journal[len(before.Journal):] {
		out.Journal = append(out.Journal, e.String())
	}
	return out
}
