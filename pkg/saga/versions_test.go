package saga_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/saga/sagatest"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// versions are two of a plan: the second has a step more, before the third.
func versions(t *testing.T, of string) (first, second *saga.Definition) {
	t.Helper()
	plan := func(version int, names ...string) *saga.Definition {
		var steps []saga.Step
		for _, name := range names {
			steps = append(steps, saga.Step{Name: name, Deadline: time.Hour, UndoDeadline: time.Hour, MaxUndoAttempts: 3})
		}
		def, err := saga.NewDefinition(of, version, steps...)
		require.NoError(t, err)
		return def
	}
	return plan(1, "first", "second", "third"), plan(2, "first", "second", "audit", "third")
}

// What a job's saga sends, and what it is answered.
type (
	workAsked    struct{ Command, Step string }
	workAnswered struct{ Step, Outcome string }
)

func (workAsked) EventType() string     { return "work.asked" }
func (workAsked) EventTopic() string    { return "work" }
func (workAnswered) EventType() string  { return "work.answered" }
func (workAnswered) EventTopic() string { return "answers" }

type jobsConfig struct {
	service.Base
	app.Config
}

// jobs is a service whose jobs are sagas. A new job is of the last of the plans with the name that it asks for.
func jobs(rules []saga.Rule, plans ...*saga.Definition) func(context.Context, jobsConfig, *service.Runtime) error {
	return func(ctx context.Context, cfg jobsConfig, rt *service.Runtime) error {
		a, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{
			Source: "/jobs", Topics: jobTopics(), Key: "job", Also: map[string]fs.FS{"saga": saga.Migrations},
			Validate: func(string, []byte) error { return nil },
		})
		if err != nil {
			return err
		}
		st, err := saga.NewStore(rt.Registry, plans...)
		if err != nil {
			return err
		}
		if err := st.Move(rules...); err != nil {
			return err
		}
		send := func(ctx context.Context, tx *outbox.Tx, id string, commands []saga.Command, err error) error {
			for _, c := range commands {
				if _, err := tx.Publish(ctx, id, workAsked{string(c.Kind), c.Step}); err != nil {
					return err
				}
			}
			return err
		}
		consumer.On(a.Consumer, func(ctx context.Context, tx *outbox.Tx, e event.Event, body workAnswered) error {
			_, commands, err := st.Apply(ctx, tx.Tx, e.Key, saga.Reply{At: tx.Now(), Step: body.Step, Outcome: saga.Outcome(body.Outcome), MessageID: e.ID})
			return send(ctx, tx, e.Key, commands, err)
		})
		a.Router.Post("/jobs/{id}/{plan}", func(w http.ResponseWriter, r *http.Request) {
			id := chi.URLParam(r, "id")
			var current *saga.Definition
			for _, def := range plans {
				if def.Name == chi.URLParam(r, "plan") {
					current = def
				}
			}
			err := a.Outbox.InTx(r.Context(), func(ctx context.Context, tx *outbox.Tx) error {
				_, commands, err := st.Start(ctx, tx.Tx, current, id, nil, tx.Now())
				return send(ctx, tx, id, commands, err)
			})
			if err != nil {
				httpapi.Write(w, r, err)
			}
		})
		a.Router.Get("/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
			s, err := st.Get(r.Context(), a.DB, chi.URLParam(r, "id"))
			if err != nil {
				httpapi.Write(w, r, err)
				return
			}
			_, _ = fmt.Fprintf(w, `{"status":%q,"version":%d,"journal":%q}`, s.Status, s.DefinitionVersion, fmt.Sprint(s.Journal)) // the test reads it
		})
		return a.Start(ctx)
	}
}

func jobTopics() []kafka.Topic {
	return []kafka.Topic{
		{Name: "work", Partitions: 2}, {Name: "answers", Partitions: 2},
		{Name: deadletter.Topic("jobs"), Partitions: 2}, {Name: deadletter.RedriveTopic("jobs"), Partitions: 2},
	}
}

// TestSagasInFlightWhenThePlanChanges: across the restart with second versions of two plans, jobs begun under the first end
// under it; where a rule is, those that have not come to what the versions differ in go on under the second, and the
// others end under the first.
func TestSagasInFlightWhenThePlanChanges(t *testing.T) {
	t.Parallel()
	old1, old2 := versions(t, "staying")
	v1, v2 := versions(t, "moving")
	s := testkit.Start(t, jobTopics())
	svc := testkit.Run(s, "jobs", jobs(nil, old1, v1))
	begin := func(id, plan string) {
		t.Helper()
		resp, body := svc.Post("/jobs/"+id+"/"+plan, "")
		require.Equal(t, http.StatusOK, resp.StatusCode, body)
	}
	answer := func(id, text string) {
		step, outcome, _ := strings.Cut(text, " ")
		s.Send("/test", id, workAnswered{step, outcome})
	}
	under1, under2 := []string{"do first", "do second", "do third"}, []string{"do first", "do second", "do audit", "do third"}
	undone := []string{"do first", "do second", "undo first"}
	all := []struct {
		plan string
		// before are the answers until the restart, and commands all that is asked in the end, the last by that version.
		before, commands []string
		status           saga.Status
		version          int
	}{
		{"staying", nil, under1, saga.Completed, 1},
		{"staying", []string{"first done"}, under1, saga.Completed, 1},
		{"staying", []string{"first done", "second done"}, under1, saga.Completed, 1},
		{"staying", []string{"first done", "second failed"}, undone, saga.Compensated, 1},
		{"moving", nil, under2, saga.Completed, 2},
		{"moving", []string{"first done"}, under2, saga.Completed, 2},
		{"moving", []string{"first done", "second done"}, under1, saga.Completed, 1},
		{"moving", []string{"first done", "second failed"}, undone, saga.Compensated, 1},
	}
	for i, j := range all {
		id := fmt.Sprint("job-", i)
		begin(id, j.plan)
		for n, text := range j.before {
			testkit.Await[workAsked](s, id, n+1)
			answer(id, text)
		}
		testkit.Await[workAsked](s, id, len(j.before)+1)
	}
	svc.Stop()

	svc = testkit.Run(s, "jobs", jobs([]saga.Rule{{Name: "audited-too", From: v1, To: v2}}, old1, v1, old2, v2))
	begin("new", "staying")
	_, asked := testkit.Await[workAsked](s, "new", 1)
	require.Equal(t, workAsked{"do", "first"}, asked)
	type told struct {
		Status  saga.Status
		Version int
		Journal string
	}
	require.Equal(t, 2, testkit.Eventually(svc, "/jobs/new", func(told) bool { return true }).Version)
	for i, j := range all {
		id := fmt.Sprint("job-", i)
		for n := len(j.before); n < len(j.commands); n++ {
			_, asked := testkit.Await[workAsked](s, id, n+1)
			require.Equal(t, j.commands[n], asked.Command+" "+asked.Step, id)
			answer(id, asked.Step+map[string]string{"do": " done", "undo": " undone"}[asked.Command])
		}
		ended := testkit.Eventually(svc, "/jobs/"+id, func(a told) bool { return a.Status.Terminal() })
		require.Equal(t, j.status, ended.Status, id)
		require.Equal(t, j.version, ended.Version, id)
		require.Equal(t, j.version == 2, strings.Contains(ended.Journal, "moved (audited-too, version 1 to 2)"), "%s: %s", id, ended.Journal)
		require.Len(t, s.Messages("work", "work.asked", id), len(j.commands), id)
	}
}

// TestRulesThatLeadNowhere: a rule is between two versions of one definition that the store has, forward, and alone.
func TestRulesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	v1, v2 := versions(t, "job")
	st, err := saga.NewStore(prometheus.NewPedanticRegistry(), v1, v2)
	require.NoError(t, err)
	again := *v2
	for says, r := range map[string]saga.Rule{
		"it needs a name":                     {From: v1, To: v2},
		"must lead to a later version":        {Name: "back", From: v2, To: v1},
		"from job version 1 to three version": {Name: "astray", From: v1, To: fourSteps(t)},
		"from one definition of the store":    {Name: "strange", From: v1, To: &again},
	} {
		require.ErrorContains(t, st.Move(r), says)
	}
	require.NoError(t, st.Move(saga.Rule{Name: "one", From: v1, To: v2}))
	require.ErrorContains(t, st.Move(saga.Rule{Name: "two", From: v1, To: v2}), `rule "one" leads away from job version 1 already`)
}

// TestARuleMovesOnlyWithWhatChangesTheSaga: what changes nothing moves nothing, what an operator is offered is what would
// happen, and rules follow each other.
func TestARuleMovesOnlyWithWhatChangesTheSaga(t *testing.T) {
	on(t, func(t *testing.T, db *database.DB) {
		v1, v2 := versions(t, "job")
		steps := slices.Clone(v2.Steps)
		v3, err := saga.NewDefinition("job", 3, steps[:2]...)
		require.NoError(t, err)
		st, _ := newStore(t, v1, v2, v3)
		start(t, db, st, v1, "a", sagatest.Base)
		require.NoError(t, st.Move(saga.Rule{Name: "one", From: v1, To: v2}, saga.Rule{Name: "two", From: v2, To: v3}))
		reply := func(step string, outcome saga.Outcome) (saga.State, []saga.Command) {
			s, commands, err := apply(t.Context(), db, st, "a", saga.Reply{At: sagatest.Base, Step: step, Outcome: outcome})
			require.NoError(t, err)
			return s, commands
		}
		_, _, err = apply(t.Context(), db, st, "a", saga.DeadlinePassed{At: sagatest.Base, Step: "first"})
		require.NoError(t, err)
		s, err := st.Get(t.Context(), db, "a")
		require.NoError(t, err)
		require.Equal(t, 1, s.DefinitionVersion, "it was too early, and nothing came of it")
		offers, err := st.Offers(s, sagatest.Base)
		require.NoError(t, err)
		require.Len(t, offers, 2)

		s, commands := reply("first", saga.Done)
		require.Equal(t, []saga.Command{{Step: "second", Kind: saga.Do, Attempt: 1}}, commands)
		require.Equal(t, 3, s.DefinitionVersion)
		require.Len(t, s.Steps, 2)
		require.Equal(t, "moved (two, version 2 to 3)", s.Journal[len(s.Journal)-1].String())
		s, _ = reply("second", saga.Done)
		require.Equal(t, saga.Completed, s.Status)
		found, err := saga.List(t.Context(), db, saga.Filter{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, 3, found[0].DefinitionVersion)
		var column int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT definition_version FROM sagas WHERE id = 'a'`).Scan(&column))
		require.Equal(t, 3, column)

		// One that is being undone stays, also where the later version only goes on further.
		one, err := saga.NewDefinition("short", 1, steps[:1]...)
		require.NoError(t, err)
		two, err := saga.NewDefinition("short", 2, steps[:2]...)
		require.NoError(t, err)
		st, err = saga.NewStore(nil, one, two)
		require.NoError(t, err)
		start(t, db, st, one, "b", sagatest.Base)
		_, _, err = apply(t.Context(), db, st, "b", saga.Cancel{At: sagatest.Base, Reason: "cancelled"})
		require.NoError(t, err)
		require.NoError(t, st.Move(saga.Rule{Name: "longer", From: one, To: two}))
		s, _, err = apply(t.Context(), db, st, "b", saga.Reply{At: sagatest.Base, Step: "first", Outcome: saga.Undone})
		require.NoError(t, err)
		require.Equal(t, saga.Compensated, s.Status)
		require.Equal(t, 1, s.DefinitionVersion)
	})
}
