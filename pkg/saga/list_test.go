package saga_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
)

func ids(states []saga.State) string {
	all := make([]string, len(states))
	for i, s := range states {
		all[i] = s.ID
	}
	return strings.Join(all, " ")
}

func TestListFindsSagas(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, _ := newStore(t, def)
		at := func(seconds int) time.Time { return sagatest.Base.Add(time.Duration(seconds) * time.Second) }
		for i, id := range []string{"d", "b", "c", "a"} { // b and c share an instant
			start(t, db, st, def, id, at([]int{0, 1, 1, 2}[i]))
		}
		move := func(id string, ins ...saga.Input) {
			for _, in := range ins {
				_, _, err := apply(t.Context(), db, st, id, in)
				require.NoError(t, err)
			}
		}
		move("b", saga.Reply{At: at(3), Step: "first", Outcome: saga.Done})
		move("c", saga.Reply{At: at(3), Step: "first", Outcome: saga.Failed, Reason: "declined"})
		move("a", saga.Cancel{At: at(3), Reason: "cancelled"})
		for _, tc := range []struct {
			name string
			f    saga.Filter
			want string
		}{
			{"all", saga.Filter{}, "d b c a"},
			{"a status", saga.Filter{Statuses: []saga.Status{saga.Running}}, "d b"},
			{"statuses", saga.Filter{Statuses: []saga.Status{saga.Compensated, saga.Compensating}}, "c a"},
			{"a step", saga.Filter{Step: "first"}, "d a"},
			{"a status and a step", saga.Filter{Statuses: []saga.Status{saga.Running}, Step: "second"}, "b"},
			{"a reason", saga.Filter{Reason: "declined"}, "c"},
			{"age", saga.Filter{StartedBefore: at(1)}, "d b c"},
			{"nothing", saga.Filter{Reason: "declined", Step: "first"}, ""},
		} {
			tc.f.Limit = 10
			got, err := saga.List(t.Context(), db, tc.f)
			require.NoError(t, err)
			require.Equal(t, tc.want, ids(got), tc.name)
			paged := []saga.State{}
			for tc.f.Limit = 1; ; {
				page, err := saga.List(t.Context(), db, tc.f)
				require.NoError(t, err)
				if len(page) == 0 {
					break
				}
				paged = append(paged, page...)
				tc.f.After = saga.Position{StartedAt: page[0].StartedAt, ID: page[0].ID}
			}
			require.Equal(t, got, paged, tc.name)
		}

		// A row that cannot be read is listed, and hides no other.
		_, err := db.ExecContext(t.Context(), `UPDATE sagas SET state = 'broken' WHERE id = 'b'`)
		require.NoError(t, err)
		got, err := saga.List(t.Context(), db, saga.Filter{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, "d b c a", ids(got))
		require.Contains(t, got[1].Trouble, "read saga b")
		require.Equal(t, at(1), got[1].StartedAt, "pages go on behind it")
	})
}

func TestGaugeOfFailedCompensations(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		def := threeSteps(t)
		st, reg := newStore(t, def)
		shows := func(want ...float64) {
			t.Helper()
			families, err := reg.Gather()
			require.NoError(t, err)
			got := []float64(nil)
			for _, f := range families {
				if f.GetName() == "sagas_compensation_failed" {
					for _, m := range f.GetMetric() {
						require.Equal(t, "three", m.GetLabel()[0].GetValue())
						got = append(got, m.GetGauge().GetValue())
					}
				}
			}
			require.Equal(t, want, got)
		}
		shows()
		require.NoError(t, st.Observe(t.Context(), db))
		shows(0)
		start(t, db, st, def, "a", sagatest.Base)
		for _, in := range []saga.Input{saga.Cancel{At: sagatest.Base}, saga.DeadlinePassed{At: sagatest.Base.Add(time.Hour), Step: "first"},
			saga.DeadlinePassed{At: sagatest.Base.Add(2 * time.Hour), Step: "first"}, saga.DeadlinePassed{At: sagatest.Base.Add(3 * time.Hour), Step: "first"}} {
			_, _, err := apply(t.Context(), db, st, "a", in)
			require.NoError(t, err)
		}
		require.NoError(t, st.Observe(t.Context(), db))
		shows(1)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, st.Observe(cancelled, db))
		shows()
	})
}

// TestStatesThatWereStoredBefore: what earlier builds stored, under the first table and the first version of the plan, is found
// and ends under that version, beside new sagas of the second. The files are what they stored.
func TestStatesThatWereStoredBefore(t *testing.T) {
	t.Parallel()
	first, err := fs.ReadFile(saga.Migrations, "0001_sagas.sql")
	require.NoError(t, err)
	files, err := filepath.Glob("testdata/stored/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{"saga": fstest.MapFS{"0001_sagas.sql": {Data: first}}})
		ctx := t.Context()
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var s saga.State
			require.NoError(t, json.Unmarshal(text, &s))
			step, _ := s.Active()
			var deadline *time.Time
			if d := s.NextDeadline(); !d.IsZero() {
				deadline = &d
			}
			_, err = db.ExecContext(ctx, `INSERT INTO sagas (id, definition, definition_version, version, status, step, state, next_deadline, created_at, updated_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, s.ID, s.Definition, s.DefinitionVersion, 7, string(s.Status), step.Name, string(text), deadline, s.StartedAt, s.UpdatedAt)
			require.NoError(t, err)
		}
		require.NoError(t, db.Migrate(ctx, "saga", saga.Migrations))
		st, err := saga.NewStore(prometheus.NewPedanticRegistry(), threeSteps(t), fourSteps(t))
		require.NoError(t, err)
		for reason, want := range map[string]string{"declined": "compensating", "cancelled": "compensation_failed"} {
			found, err := saga.List(ctx, db, saga.Filter{Reason: reason, Limit: 10})
			require.NoError(t, err)
			require.Equal(t, want, ids(found))
		}
		for _, file := range files {
			id := strings.TrimSuffix(filepath.Base(file), ".json")
			s, err := st.Get(ctx, db, id)
			require.NoError(t, err)
			require.EqualValues(t, 7, s.Version)
			for turns := 0; !s.Status.Terminal(); turns++ {
				require.Less(t, turns, 10, "saga %s does not end", id)
				step, _ := s.Active()
				outcome := saga.Done
				if step.Status == saga.StepUndoing {
					outcome = saga.Undone
				}
				s, _, err = apply(ctx, db, st, id, saga.Reply{At: sagatest.Base.Add(time.Minute), Step: step.Name, Outcome: outcome})
				require.NoError(t, err)
			}
			require.Equal(t, 1, s.DefinitionVersion)
			require.JSONEq(t, `{"k":"v"}`, string(s.Data))
		}
		require.NoError(t, db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
			s, commands, err := st.Start(ctx, tx, fourSteps(t), "new", nil, sagatest.Base)
			require.Equal(t, "[do check (attempt 1)]", fmt.Sprint(commands))
			require.Equal(t, 2, s.DefinitionVersion)
			return err
		}))
	})
}
