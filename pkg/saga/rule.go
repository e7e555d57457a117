package saga

import (
	"fmt"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Rule moves sagas from the version of a definition that they were started with to a later one: what they have begun
// stays as it is, and what they have not is as the later version has it. A saga is moved by the next input that changes
// it, if it is Running then and what it has begun are the first steps of To, in that order and by name. Any other goes on
// under From.
type Rule struct {
	// Name stands in the journal of each saga that was moved.
	Name     string
	From, To *Definition
}

// Move has sagas moved by these rules, at most one from each version. It is for wiring, before the store is used.
func (st *Store) Move(rules ...Rule) error {
	for _, r := range rules {
		from, to := plan{r.From.Name, r.From.Version}, plan{r.To.Name, r.To.Version}
		var wrong string
		switch {
		case r.Name == "":
			wrong = "it needs a name"
		case from.name != to.name || from.version >= to.version:
			wrong = fmt.Sprintf("it leads from %s version %d to %s version %d, must lead to a later version of the same definition", from.name, from.version, to.name, to.version)
		case st.defs[from] != r.From || st.defs[to] != r.To:
			wrong = "it must lead from one definition of the store to another"
		case st.rules[from].Name != "":
			wrong = fmt.Sprintf("rule %q leads away from %s version %d already", st.rules[from].Name, from.name, from.version)
		default:
			st.rules[from] = r
			continue
		}
		return fault.Permanentf("saga rule %q: %s", r.Name, wrong)
	}
	return nil
}

// moved is a saga under the version that it goes on with, and the rules that led there.
func (st *Store) moved(s State) (State, *Definition, []Rule, error) {
	var by []Rule
	for {
		def, err := st.definition(s)
		r := st.rules[plan{s.Definition, s.DefinitionVersion}]
		if err != nil || r.Name == "" || !r.fits(s) {
			return s, def, by, err
		}
		s, by = r.move(s), append(by, r)
	}
}

func (r Rule) fits(s State) bool {
	begun := begun(s)
	return s.Status == Running && len(begun) <= len(r.To.Steps) &&
		slices.EqualFunc(begun, r.To.Steps[:len(begun)], func(a StepState, b Step) bool { return a.Name == b.Name })
}

// begun are the steps of a running saga that it has come to.
func begun(s State) []StepState {
	n := slices.IndexFunc(s.Steps, func(step StepState) bool { return step.Status == StepPending })
	if n < 0 {
		n = len(s.Steps)
	}
	return s.Steps[:n]
}

func (r Rule) move(s State) State {
	done := begun(s)
	s.DefinitionVersion = r.To.Version
	s.Steps = append(slices.Clone(done), New(r.To, s.ID, nil).Steps[len(done):]...)
	return s
}

// note writes into the journal of a saga that an input changed that it was moved before.
func (r Rule) note(s State, at time.Time) State {
	t := &turn{s: s, at: instant(at)}
	t.note(Entry{Kind: EntryMoved, Reason: r.Name, Detail: fmt.Sprintf("version %d to %d", r.From.Version, r.To.Version)})
	return t.s
}
