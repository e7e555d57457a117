package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeService has one dead letter, t-0-1, and remembers what was asked of it.
func fakeService(t *testing.T) (url string, asked func() []string) {
	t.Helper()
	requests := make(chan string, 100)
	state := "waiting"
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
	mux.HandleFunc("POST /admin/dead-letters/{id}/redrive", verb(http.StatusAccepted, "redriving"))
	mux.HandleFunc("POST /admin/dead-letters/{id}/discard", verb(http.StatusOK, "discarded"))
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
		{args: "redrive --service=payment --actor=ada --reason=fixed", code: 1, says: "name the dead letters to redrive, or --all"},
		{
			args: "redrive t-0-1 --service=payment --actor=ada --reason=fixed", says: "redriving",
			asked: []string{"/admin/dead-letters/t-0-1/redrive ada: fixed"},
		},
		{
			args: "redrive --all --service=payment --actor=ada --reason=fixed", says: "1 dead letters.",
			asked: []string{"/admin/dead-letters/t-0-1/redrive ada: fixed"},
		},
		{
			args: "discard t-0-1 --service=payment --actor=ada --reason=junk --json", says: `"state": "discarded"`,
			asked: []string{"/admin/dead-letters/t-0-1/discard ada: junk"},
		},
		{args: "discard --service=payment --actor=ada --reason=junk", code: 1, says: "name the dead letters to discard"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			url, asked := fakeService(t)
			args := append([]string{"dlq"}, strings.Fields(tc.args)...)
			for _, name := range []string{"order", "inventory", "payment", "shipping", "notification", "analytics"} {
				args = append(args, "--"+name+"-url="+url)
			}
			var out strings.Builder
			require.Equal(t, tc.code, run(args, console{out: &out, err: &out}), out.String())
			require.Contains(t, out.String(), tc.says)
			require.Equal(t, tc.asked, asked())
		})
	}
}
