package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/client"
)

const cause = `{"group":"payment","topic":"t","event_type":"payment.charge","error_type":"transient","cause":"no answer","letters":3,"open":2,
	"first_failed_at":"2026-11-21T11:00:00Z","last_failed_at":"2026-11-21T12:00:00Z","example":"t-0-1"}`

// fakeService has one dead letter, t-0-1, and remembers what was asked of it.
func fakeService(t *testing.T) (url string, asked func() []string) {
	t.Helper()
	requests := make(chan string, 100)
	state, answered := "waiting", false
	letter := func() string {
		return fmt.Sprintf(`{"id":"t-0-1","state":%q,"event_type":"payment.charge","key":"o-1","error_type":"transient","error":"no answer",
			"failed_at":"2026-11-21T12:00:00Z","updated_at":"2026-11-21T12:00:00Z","headers":{"ce_id":"m-1"},"value":"{}","value_base64":"e30="}`, state)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /admin/dead-letters", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if s := r.URL.Query().Get("state"); s != "" && s != state {
			_, _ = fmt.Fprint(w, `{"items":[]}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"items":[%s]}`, letter())
	})
	mux.HandleFunc("GET /admin/dead-letters/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "t-0-1" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, letter())
	})
	verb := func(status int, after string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var by struct{ Actor, Reason string }
			if err := json.NewDecoder(r.Body).Decode(&by); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			requests <- r.URL.Path + " " + by.Actor + ": " + by.Reason
			state = after
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, letter())
		}
	}
	mux.HandleFunc("GET /admin/dead-letters/causes", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"items":[%s]}`, cause)
	})
	mux.HandleFunc("GET /admin/dead-letters/audit", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"items":[{"seq":7,"at":"2026-11-21T12:00:00Z","actor":"bob","verb":"edit","reason":"typo","letter":"t-0-1"}]}`)
	})
	mux.HandleFunc("GET /admin/dead-letters/audit/{seq}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"seq":7,"at":"2026-11-21T12:00:00Z","actor":"bob","verb":"edit","reason":"typo","before_base64":"b2xk"}`)
	})
	job := func(w http.ResponseWriter, id string, status int, state string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		ended := ""
		if state == "stopped" {
			ended = `,"ended_at":"2026-11-21T12:00:01Z"`
		}
		_, _ = fmt.Fprintf(w, `{"id":%q,"verb":"redrive","state":%q,"filter":{},"actor":"ada","reason":"fixed","total":3,"looked_at":3,"taken":2,"settled":1,"failed":1,
			"detail":"1 letters failed again, 0 may","created_at":"2026-11-21T12:00:00Z","updated_at":"2026-11-21T12:00:00Z"%s}`, id, state, ended)
	}
	mux.HandleFunc("POST /admin/dead-letters/jobs", func(w http.ResponseWriter, r *http.Request) {
		var request map[string]any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		filter, _ := json.Marshal(request["filter"])
		switch {
		case strings.Contains(string(filter), "unheard"):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = fmt.Fprint(w, `{"title":"Unprocessable Entity","status":422,"detail":"no letter matches that waits","errors":[{"in":"body","path":"/filter","detail":"must match"}]}`)
		case request["dry_run"] == true:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"total":3,"causes":[%s],"letters":[%s]}`, cause, letter())
		case strings.Contains(string(filter), "busy"):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = fmt.Fprint(w, `{"title":"Unprocessable Entity","status":422,"detail":"begin job: more letters match than the job may take: it may take 3"}`)
		default:
			requests <- fmt.Sprintf("%s %s: %s %s canary %v rate %v failures %v max %v", request["verb"], request["actor"], request["reason"], filter,
				request["canary"], request["rate"], request["max_failures"], request["max"])
			job(w, "j-2", http.StatusAccepted, "running")
		}
	})
	mux.HandleFunc("GET /admin/dead-letters/jobs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"items":[]}`)
	})
	mux.HandleFunc("GET /admin/dead-letters/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		switch id := r.PathValue("id"); {
		case id == "j-2" && !answered:
			answered = true
			w.WriteHeader(http.StatusServiceUnavailable) // it is started again
		case id == "j-1", id == "j-2":
			job(w, id, http.StatusOK, "stopped")
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("POST /admin/dead-letters/jobs/{id}/stop", func(w http.ResponseWriter, _ *http.Request) { job(w, "j-1", http.StatusAccepted, "stopping") })
	mux.HandleFunc("POST /admin/dead-letters/{id}/edit", func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		requests <- r.URL.Path + " " + body["actor"] + ": " + body["value_base64"]
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, letter())
	})
	mux.HandleFunc("POST /admin/dead-letters/{id}/redrive", verb(http.StatusAccepted, "redriving"))
	mux.HandleFunc("POST /admin/dead-letters/{id}/discard", verb(http.StatusOK, "discarded"))
	return serve(t, mux, requests)
}

// serve serves what stands for services, which note their requests, and returns its address and what takes the notes.
func serve(t *testing.T, mux *http.ServeMux, requests <-chan string) (url string, asked func() []string) {
	t.Helper()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		var all []string
		for len(requests) > 0 {
			all = append(all, <-requests)
		}
		return all
	}
}

// everywhere names one address for all services.
func everywhere(url string) (args []string) {
	for _, name := range client.Services() {
		args = append(args, "--"+name+"-url="+url)
	}
	return args
}

func TestDeadLetterCommands(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args  string
		code  int
		says  string
		asked []string
	}{
		{args: "list --service=payment", says: "payment  t-0-1  waiting"},
		{args: "list --service=payment --state=discarded", says: "There are no dead letters like that."},
		{args: "list --service=payment --json", says: `"event_type": "payment.charge"`},
		{args: "list --service=nobody", code: 2, says: "--service must be one of"},
		{args: "show t-0-1 --service=payment", says: "header ce_id  m-1"},
		{args: "show t-0-1", code: 1, says: "both have a dead letter t-0-1: choose one with --service"},
		{args: "show t-9-9", code: 1, says: "there is no dead letter t-9-9 at order, inventory"},
		{args: "redrive t-0-1 --service=payment --actor=ada", code: 2, says: "missing flags: --reason"},
		{args: "redrive --service=payment --actor=ada --reason=fixed", code: 1, says: "name the dead letters to redrive, select them by --cause"},
		{args: "redrive t-0-1 --all --actor=ada --reason=fixed", code: 1, says: "name dead letters or select them, not both"},
		{args: "redrive t-0-1 --canary=1 --actor=ada --reason=fixed", code: 1, says: "--canary and --rate are for letters that are selected"},
		{args: "redrive t-0-1 --dry-run --service=payment --actor=ada --reason=fixed", says: "payment  t-0-1  waiting"},
		{
			args: "redrive t-0-1 --service=payment --actor=ada --reason=fixed", says: "redriving",
			asked: []string{"/admin/dead-letters/t-0-1/redrive ada: fixed"},
		},
		{
			args: "redrive --topic=t --since=2026-11-21T10:00:00Z --canary=2 --rate=5 --service=payment --actor=ada --reason=fixed", code: 1,
			says:  "job j-2 of payment was stopped: 1 letters failed again, 0 may",
			asked: []string{`redrive ada: fixed {"since":"2026-11-21T10:00:00Z","state":"open","topic":"t","until":"2026-11-21T12:00:00.000001Z"} canary 2 rate 5 failures 10 max 3`},
		},
		{
			args: "discard --all --max=9 --no-wait --service=payment --actor=ada --reason=junk", says: "3 dead letters to discard, by cause:",
			asked: []string{`discard ada: junk {"state":"open","until":"2026-11-21T12:00:00.000001Z"} canary <nil> rate 0 failures <nil> max 3`},
		},
		{
			args: "redrive --topic=busy --service=payment --actor=ada --reason=fixed", code: 1,
			says: "payment: more letters match now than were shown; nothing was begun there, look at them and press again",
		},
		{args: "redrive --all --dry-run --service=payment --actor=ada --reason=fixed", says: "Nothing was changed: this was a dry run."},
		{args: "redrive --topic=unheard --actor=ada --reason=fixed", code: 1, says: "no letter matches that waits, at any service"},
		{args: "redrive --topic=unheard --service=payment --actor=ada --reason=fixed", code: 1, says: "422 Unprocessable Entity: no letter matches that waits; body /filter must match"},
		{args: "list --since=yesterday", code: 1, says: `--since is "yesterday", must be a time such as`},
		{args: "list --until=-5m", code: 1, says: `--until is "-5m", must be a time such as`},
		{args: "list --state=lost", code: 2, says: "--state must be one of"},
		{args: "redrive t-9-9 --service=payment --actor=ada --reason=fixed", code: 1, says: "there is no dead letter t-9-9 at payment"},
		{args: "redrive --all --rate=fast --actor=ada --reason=fixed", code: 2, says: `--rate: expected a valid 64 bit int but got "fast"`},
		{args: "discard --state=redriven --actor=ada --reason=junk", code: 2, says: `--state must be one of "open","waiting","failed_again" but got "redriven"`},
		{args: "stop j-3 --actor=ada --reason=enough", code: 1, says: "there is no job j-3 at order, inventory"},
		{args: "list --limit=0", code: 1, says: "--limit is 0, must be at least 1"},
		{args: "list --limit=1 --service=payment", says: "1 dead letters."},
		{args: "causes --service=payment", says: "3        2     payment  t      payment.charge"},
		{args: "jobs --service=payment", says: "There are no jobs."},
		{args: "follow j-1 --service=payment", code: 1, says: "j-1: 1 of the letters had been redriven or discarded otherwise meanwhile."},
		{args: "follow j-3", code: 1, says: "there is no job j-3 at order, inventory"},
		{args: "stop j-1 --service=payment --actor=ada --reason=enough", says: "stopping"},
		{args: "audit --letter=t-0-1 --service=payment", says: "bob  edit  payment  7      t-0-1"},
		{args: "audit --entry=7", code: 1, says: "--entry needs --service"},
		{args: "audit --entry=7 --service=payment", says: "old"},
		{args: "edit t-0-1 --service=payment --actor=ada --reason=typo", code: 2, says: "missing flags: --file=STRING or --value=STRING"},
		{
			args: "edit t-0-1 --value=new --service=payment --actor=ada --reason=typo", says: "has a new body",
			asked: []string{"/admin/dead-letters/t-0-1/edit ada: bmV3"},
		},
		{
			args: "discard t-0-1 --service=payment --actor=ada --reason=junk --json", says: `"state": "discarded"`,
			asked: []string{"/admin/dead-letters/t-0-1/discard ada: junk"},
		},
		{args: "discard --service=payment --actor=ada --reason=junk", code: 1, says: "name the dead letters to discard, select them"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			url, asked := fakeService(t)
			args := append(append([]string{"dlq"}, strings.Fields(tc.args)...), everywhere(url)...)
			var out strings.Builder
			require.Equal(t, tc.code, run(args, console{out: &out, err: &out}), out.String())
			require.Contains(t, out.String(), tc.says)
			require.Equal(t, tc.asked, asked())
		})
	}
}
