package app_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// job is a job as the API shows it.
type job struct {
	ID, State, Detail             string
	Total, Taken, Settled, Failed int
	LookedAt                      int     `json:"looked_at"`
	EndedAt                       *string `json:"ended_at"`
}

type audit struct {
	Items []struct {
		Seq                              int64
		Actor, Verb, Reason, Letter, Job string
	}
}

// desk is a service with a database of one kind, and its operator.
type desk struct {
	t   *testing.T
	s   *testkit.Stack
	url string
	a   *adder
	svc *testkit.Service
}

func openDesk(t *testing.T, url string, a *adder) *desk {
	t.Helper()
	d := &desk{t: t, s: testkit.Start(t, topics("adder")), url: url, a: a}
	d.start()
	return d
}

func (d *desk) start() {
	d.svc = testkit.Run(d.s, "adder", d.a.run, "DATABASE_URL="+d.url, "LAG_INTERVAL=100ms")
}

// post sends a verb with who and why added, and returns the status and the answer.
func (d *desk) post(path string, body map[string]any) (int, string) {
	d.t.Helper()
	all := map[string]any{"actor": "ada", "reason": "the cause is gone"}
	for name, v := range body {
		all[name] = v
	}
	resp, answer := d.svc.Post("/admin/dead-letters"+path, all)
	return resp.StatusCode, answer
}

// begin begins a job and waits until it is over.
func (d *desk) begin(request map[string]any) job {
	d.t.Helper()
	status, answer := d.post("/jobs", request)
	require.Equal(d.t, http.StatusAccepted, status, answer)
	var j job
	require.NoError(d.t, json.Unmarshal([]byte(answer), &j))
	return d.over(j.ID)
}

func (d *desk) over(id string) job {
	d.t.Helper()
	return testkit.Eventually(d.svc, "/admin/dead-letters/jobs/"+id, func(j job) bool { return j.EndedAt != nil })
}

func (d *desk) letters(query string, n int) []letter {
	d.t.Helper()
	return testkit.Eventually(d.svc, "/admin/dead-letters"+query, func(l letters) bool { return len(l.Items) == n }).Items
}

func (d *desk) audit(query string) audit {
	d.t.Helper()
	var a audit
	require.Equal(d.t, http.StatusOK, d.svc.Get("/admin/dead-letters/audit"+query, &a))
	return a
}

// What an operator does in a bad night: see, try on a few, mend, redrive all of it, once.
func TestRedriveASelection(t *testing.T) {
	t.Parallel()
	const n = 8
	databasetest.Each(t, func(t *testing.T, url string) {
		var mended atomic.Bool
		d := openDesk(t, url, &adder{handle: func(_ int, e event.Event) error {
			if !mended.Load() {
				return fault.Permanentf("line %s is none", e.Key)
			}
			return nil
		}})
		for i := range n {
			d.s.Send("/test", fmt.Sprint("k", i), numberGiven{N: 1})
		}
		d.letters("?state=waiting", n)
		testkit.Until(d.s, "they are counted", func() bool { return d.svc.Metric(`dead_letters{group="adder",state="waiting"}`) == n })
		var causes struct {
			Items []struct {
				Cause         string
				Letters, Open int
			}
		}
		require.Equal(t, http.StatusOK, d.svc.Get("/admin/dead-letters/causes", &causes))
		require.Len(t, causes.Items, 1)
		require.Equal(t, "line # is none", causes.Items[0].Cause)
		require.Equal(t, []int{n, n}, []int{causes.Items[0].Letters, causes.Items[0].Open})

		request := map[string]any{"verb": "redrive", "filter": map[string]any{"cause": "line # is none"}, "canary": 2}
		dry := map[string]any{"verb": "redrive", "filter": request["filter"], "dry_run": true}
		status, answer := d.post("/jobs", dry)
		require.Equal(t, http.StatusOK, status, answer)
		require.Contains(t, answer, fmt.Sprintf(`"total":%d`, n))
		d.letters("?state=waiting", n)
		require.Empty(t, d.audit("").Items)

		j := d.begin(request)
		require.Equal(t, []any{"stopped", n, 2, 2}, []any{j.State, j.Total, j.Taken, j.Failed})
		require.Contains(t, j.Detail, "a letter of the canary of 2 failed again")
		d.letters("?state=failed_again", 2)
		d.letters("?state=waiting", n-2)

		mended.Store(true)
		request["rate"] = 8 // two at a time: the service is started again in the middle of it
		status, answer = d.post("/jobs", request)
		require.Equal(t, http.StatusAccepted, status, answer)
		require.NoError(t, json.Unmarshal([]byte(answer), &j))
		d.svc.Stop()
		d.start()
		j = d.over(j.ID)
		require.Equal(t, []any{"done", n, n, n, 0}, []any{j.State, j.Total, j.Taken, j.Settled, j.Failed}, j.Detail)
		d.letters("?state=redriven", n)
		for i := range n {
			_, sum := testkit.Await[sumChanged](d.s, fmt.Sprint("k", i), 1)
			require.EqualValues(t, 1, sum.Total)
		}
		require.Len(t, d.s.Records(deadletter.RedriveTopic("adder")), n+2, "each once, and the canary that failed")
		status, answer = d.post("/jobs", request)
		require.Equal(t, http.StatusUnprocessableEntity, status, answer)

		// Who, what, when and why, of the jobs and of each letter.
		require.Len(t, d.audit("").Items, 2+2+n)
		require.Len(t, d.audit("?job="+j.ID).Items, 1+n)
		trail := d.audit("?letter=" + d.letters("?key=k0", 1)[0].ID).Items
		require.Equal(t, []string{"ada", "redrive", "the cause is gone", j.ID}, []string{trail[0].Actor, trail[0].Verb, trail[0].Reason, trail[0].Job})
	})
}

// A body is mended: the letter keeps its id and its key, and the bytes that it had are kept.
func TestEdit(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		d := openDesk(t, url, &adder{})
		e := recordOf(d.s.Send("/test", "good", numberGiven{N: 1}))
		e.Key, e.Value = []byte("k"), []byte(`{"n": "five"}`)
		e.Headers["ce_partitionkey"], e.Headers["ce_id"] = "k", "edited"
		d.s.SendRaw(e)
		l := d.letters("?state=open", 1)[0]
		path := "/" + l.ID
		for range 2 { // the second changes nothing
			status, answer := d.post(path+"/edit", map[string]any{"value": `{"n": "six"}`})
			require.Equal(t, http.StatusOK, status, answer)
		}
		status, answer := d.post(path+"/edit", map[string]any{"value_base64": base64.StdEncoding.EncodeToString([]byte(`{"n": 5}`))})
		require.Equal(t, http.StatusOK, status, answer)
		require.Contains(t, answer, `"edits":2`)
		status, answer = d.post(path+"/redrive", nil)
		require.Equal(t, http.StatusAccepted, status, answer)
		got, sum := testkit.Await[sumChanged](d.s, "k", 1)
		require.EqualValues(t, 5, sum.Total)
		require.Equal(t, "edited", got.CausationID, "it is still that message")
		d.letters("?state=redriven", 1)

		trail := d.audit("?letter=" + l.ID).Items
		require.Equal(t, []string{"redrive", "edit", "edit"}, []string{trail[0].Verb, trail[1].Verb, trail[2].Verb})
		var first struct {
			Before string `json:"before_base64"`
		}
		require.Equal(t, http.StatusOK, d.svc.Get(fmt.Sprint("/admin/dead-letters/audit/", trail[2].Seq), &first))
		before, err := base64.StdEncoding.DecodeString(first.Before)
		require.NoError(t, err)
		require.Equal(t, `{"n": "five"}`, string(before))
		require.JSONEq(t, `{"n": "five"}`, string(d.s.Records(deadletter.Topic("adder"))[0].Value), "and in the topic")
	})
}

// The index comes back from the topic when its rows are lost, whatever the broker remembers of who read it. What only the
// table knew is lost with it: what an operator did. A letter that was redriven waits again, and redriving it once more has
// no second effect.
func TestIndexIsRebuilt(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		var mended atomic.Bool
		d := openDesk(t, url, &adder{handle: func(int, event.Event) error {
			if !mended.Load() {
				return fault.Permanentf("no")
			}
			return nil
		}})
		for _, key := range []string{"redriven", "again", "waiting"} {
			d.s.Send("/test", key, numberGiven{N: 1})
		}
		d.letters("?state=waiting", 3)
		again, redriven := d.letters("?key=again", 1)[0], d.letters("?key=redriven", 1)[0]
		status, answer := d.post("/"+again.ID+"/redrive", nil)
		require.Equal(t, http.StatusAccepted, status, answer)
		d.letters("?state=failed_again", 1)
		mended.Store(true)
		status, answer = d.post("/"+redriven.ID+"/redrive", nil)
		require.Equal(t, http.StatusAccepted, status, answer)
		d.letters("?state=redriven", 1)

		d.svc.Stop()
		db := databasetest.Open(t, url, nil)
		for _, table := range []string{"dead_letters", "dead_letter_index", "dead_letter_audit"} {
			_, err := db.ExecContext(t.Context(), `DELETE FROM `+table)
			require.NoError(t, err)
		}
		d.start()
		d.letters("", 3)
		rebuilt := d.letters("?key=again", 1)[0]
		require.Equal(t, []any{again.ID, "failed_again", 2}, []any{rebuilt.ID, rebuilt.State, rebuilt.Failures})
		require.Empty(t, d.audit("").Items)

		lost := d.letters("?key=redriven", 1)[0]
		require.Equal(t, "waiting", lost.State)
		j := d.begin(map[string]any{"verb": "redrive", "filter": map[string]any{}})
		require.Equal(t, []any{"done", 3, 3}, []any{j.State, j.Total, j.Settled})
		_, sum := testkit.Await[sumChanged](d.s, "waiting", 1)
		require.EqualValues(t, 1, sum.Total)
		require.Len(t, d.s.Messages("sums", "sum.changed", "redriven"), 1, "handled before, and once")

		// Started again, it is as it was.
		d.svc.Stop()
		d.start()
		d.letters("?state=redriven", 3)
	})
}

// What is refused says what to change, and changes nothing.
func TestVerbsRefuse(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		d := openDesk(t, url, &adder{handle: func(int, event.Event) error { return fault.Permanentf("never") }})
		for range 3 {
			d.s.Send("/test", "k", numberGiven{N: 1})
		}
		all := d.letters("?state=waiting", 3)
		discarded, waits := "/"+all[0].ID, "/"+all[1].ID
		status, answer := d.post(discarded+"/discard", nil)
		require.Equal(t, http.StatusOK, status, answer)
		before := len(d.audit("").Items)

		everything := map[string]any{}
		for _, tc := range []struct {
			path   string
			body   map[string]any
			status int
			says   string
		}{
			{"/nowhere-0-0/redrive", nil, 404, "there is no dead letter nowhere-0-0"},
			{"/nowhere-0-0/discard", nil, 404, "there is no dead letter nowhere-0-0"},
			{"/nowhere-0-0/edit", map[string]any{"value": "x"}, 404, "there is no dead letter nowhere-0-0"},
			{"/jobs/nobody/stop", nil, 404, "there is no job nobody"},
			{"/" + strings.Repeat("x", 301) + "/redrive", nil, 400, "must have at most 300 characters"},
			{"/jobs/" + strings.Repeat("x", 65) + "/stop", nil, 400, "must have at most 64 characters"},
			{"/jobs/nobody/stop", map[string]any{"reason": ""}, 400, "/reason"},
			{discarded + "/redrive", nil, 409, "is discarded"},
			{discarded + "/edit", map[string]any{"value": "x"}, 409, "is discarded"},
			{waits + "/redrive", map[string]any{"reason": ""}, 400, "/reason"},
			{waits + "/redrive", map[string]any{"reason": "  "}, 400, "/reason"},
			{waits + "/redrive", map[string]any{"reason": strings.Repeat("x", 501)}, 400, "/reason"},
			{waits + "/discard", map[string]any{"actor": " "}, 400, "/actor"},
			{waits + "/discard", map[string]any{"force": true}, 400, "force"},
			{waits + "/edit", nil, 400, "must have either value or value_base64"},
			{waits + "/edit", map[string]any{"value": "x", "value_base64": "eA=="}, 400, "must have either value or value_base64"},
			{waits + "/edit", map[string]any{"value_base64": "%%"}, 400, "must be base64"},
			{waits + "/edit", map[string]any{"value": strings.Repeat("x", 1<<20+1)}, 413, "must be at most 1048576 bytes, is 1048577"},
			{"/jobs", map[string]any{"verb": "redrive"}, 400, "filter"},
			{"/jobs", map[string]any{"verb": "eat", "filter": everything}, 400, "/verb"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "reason": ""}, 400, "/reason"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"state": "discarded"}}, 400, "/filter/state"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"colour": "red"}}, 400, "colour"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"since": "yesterday"}}, 400, "/filter/since"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"key": strings.Repeat("k", 4097)}}, 400, "/filter/key"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}}, 422, "no letter matches that waits"},
			{"/jobs", map[string]any{"verb": "discard", "filter": everything, "actor": strings.Repeat("a", 101)}, 400, "/actor"},
			{"/jobs", map[string]any{"verb": "discard", "filter": everything, "max": 0}, 400, "/max"},
			{"/jobs", map[string]any{"verb": "discard", "filter": everything, "max": 1}, 422, "it may take 1"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "canary": -1}, 400, "/canary"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "canary": 1001}, 400, "/canary"},
			{"/jobs", map[string]any{"verb": "discard", "filter": everything, "canary": 1}, 422, "/canary"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "rate": -1}, 400, "/rate"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "rate": 0.5}, 400, "/rate"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "max_failures": -1}, 400, "/max_failures"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "max": 1_000_001}, 400, "/max"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "max": 1}, 422, "it may take 1"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": everything, "max": 1, "dry_run": true}, 422, "it may take 1"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"key": "another"}}, 422, "no letter matches that waits"},
			{"/jobs", map[string]any{"verb": "redrive", "filter": map[string]any{"text": "100%"}}, 422, "no letter matches that waits"},
		} {
			status, answer := d.post(tc.path, tc.body)
			require.Equal(t, tc.status, status, "%s %v: %s", tc.path, tc.body, answer)
			require.Contains(t, answer, tc.says, "%s %v", tc.path, tc.body)
			require.Contains(t, answer, `"title"`)
		}
		for query, says := range map[string]string{
			"?sate=waiting": "sate", "?state=lost": "state", "?limit=0": "limit", "?limit=501": "limit", "?since=noon": "since", "?cursor=x": "cursor", "?error_type=odd": "error_type",
			"/causes?limit=9999": "limit", "/audit/0": "seq", "/jobs?cursor=x": "cursor", "/audit?cursor=x": "cursor",
		} {
			resp, err := http.Get(d.svc.URL + "/admin/dead-letters" + query)
			require.NoError(t, err)
			var p struct {
				Status int
				Errors []struct{ Path string }
				Detail string
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&p))
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusBadRequest, p.Status, query)
			require.Contains(t, fmt.Sprint(p), says, query)
		}
		require.Equal(t, http.StatusNotFound, d.svc.Get("/admin/dead-letters/audit/999999", nil))
		require.Equal(t, http.StatusNotFound, d.svc.Get("/admin/dead-letters/jobs/nobody", nil))

		d.letters("?state=waiting", 2)
		require.Len(t, d.audit("").Items, before)
		var jobs struct{ Items []job }
		require.Equal(t, http.StatusOK, d.svc.Get("/admin/dead-letters/jobs", &jobs))
		require.Empty(t, jobs.Items)
		require.Empty(t, d.s.Records(deadletter.RedriveTopic("adder")))
	})
}
