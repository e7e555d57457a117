package saga_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
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
	"github.com/orderflow/orderflow/pkg/database/databasetest"
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
func versions(t *testing.T) (first, second *saga.Definition) {
	t.Helper()
	plan := func(version int, names ...string) *saga.Definition {
		var steps []saga.Step
		for _, name := range names {
			steps = append(steps, saga.Step{Name: name, Deadline: time.Hour, UndoDeadline: time.Hour, MaxUndoAttempts: 3})
		}
		def, err := saga.NewDefinition("job", version, steps...)
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

// jobs is a service whose jobs are sagas: the last of the plans is the one of new jobs.
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
		a.Router.Post("/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
			id := chi.URLParam(r, "id")
			err := a.Outbox.InTx(r.Context(), func(ctx context.Context, tx *outbox.Tx) error {
				_, commands, err := st.Start(ctx, tx.Tx, plans[len(plans)-1], id, nil, tx.Now())
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

// TestSagasInFlightWhenThePlanChanges: across the restart with a second version of the plan, jobs begun under the first end
// under it; with a rule those that have not come to what the versions differ in go on under the second, and the others
// end under the first.
func TestSagasInFlightWhenThePlanChanges(t *testing.T) {
	t.Parallel()
	v1, v2 := versions(t)
	type job struct {
		// before are the answers until the restart, and commands all that is asked in the end.
		before, commands []string
		status           saga.Status
		version          int
	}
	const declined = "second failed"
	undone := []string{"do first", "do second", "undo first"}
	under1, under2 := []string{"do first", "do second", "do third"}, []string{"do first", "do second", "do audit", "do third"}
	for name, tc := range map[string]struct {
		rules []saga.Rule
		jobs  map[string]job
	}{
		"each ends under its own": {nil, map[string]job{
			"at-first": {nil, under1, saga.Completed, 1}, "at-second": {[]string{"first done"}, under1, saga.Completed, 1},
			"at-third": {[]string{"first done", "second done"}, under1, saga.Completed, 1}, "undoing": {[]string{"first done", declined}, undone, saga.Compensated, 1},
		}},
		"moved by a rule": {[]saga.Rule{{Name: "audited-too", From: v1, To: v2}}, map[string]job{
			"at-first": {nil, under2, saga.Completed, 2}, "at-second": {[]string{"first done"}, under2, saga.Completed, 2},
			"at-third": {[]string{"first done", "second done"}, under1, saga.Completed, 1}, "undoing": {[]string{"first done", declined}, undone, saga.Compensated, 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				s := testkit.Start(t, jobTopics())
				svc := testkit.Run(s, "jobs", jobs(nil, v1), "DATABASE_URL="+url)
				begin := func(id string) {
					t.Helper()
					resp, body := svc.Post("/jobs/"+id, "")
					require.Equal(t, http.StatusOK, resp.StatusCode, body)
				}
				answer := func(id, text string) {
					step, outcome, _ := strings.Cut(text, " ")
					s.Send("/test", id, workAnswered{step, outcome})
				}
				for id, j := range tc.jobs {
					begin(id)
					for i, text := range j.before {
						testkit.Await[workAsked](s, id, i+1)
						answer(id, text)
					}
					testkit.Await[workAsked](s, id, len(j.before)+1)
				}
				svc.Stop()

				svc = testkit.Run(s, "jobs", jobs(tc.rules, v1, v2), "DATABASE_URL="+url)
				begin("new")
				all := maps.Clone(tc.jobs)
				all["new"] = job{nil, under2, saga.Completed, 2}
				for id, j := range all {
					for i := len(j.before); i < len(j.commands); i++ {
						_, asked := testkit.Await[workAsked](s, id, i+1)
						require.Equal(t, j.commands[i], asked.Command+" "+asked.Step, id)
						answer(id, asked.Step+map[string]string{"do": " done", "undo": " undone"}[asked.Command])
					}
					type told struct {
						Status  saga.Status
						Version int
						Journal string
					}
					ended := testkit.Eventually(svc, "/jobs/"+id, func(a told) bool { return a.Status.Terminal() })
					require.Equal(t, j.status, ended.Status, id)
					require.Equal(t, j.version, ended.Version, id)
					require.Equal(t, j.version == 2 && id != "new", strings.Contains(ended.Journal, "moved (audited-too, version 1 to 2)"), "%s: %s", id, ended.Journal)
					require.Len(t, s.Messages("work", "work.asked", id), len(j.commands), id)
				}
			})
		})
	}
}

// TestRulesThatLeadNowhere: a rule is between two versions of one definition that the store has, forward, and alone.
func TestRulesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	v1, v2 := versions(t)
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
		v1, v2 := versions(t)
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
	})
}
