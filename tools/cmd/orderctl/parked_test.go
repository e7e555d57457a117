package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	parkedJSON = `{"group":"order","topic":"t","partition":0,"key":"o-1","state":"blocked","messages":2,"bytes":34,"since":"2026-11-21T12:00:00Z",
		"first":"t-0-1","attempts":3,"letter":"t-0-1"}`
	retryingJSON = `{"group":"order","topic":"t","partition":1,"key":"o-2","state":"retrying","messages":60,"bytes":5,"since":"2026-11-21T11:00:00Z",
		"first":"t-1-7","attempts":2,"next_attempt":"2126-11-21T12:00:00Z"}`
)

// fakeParked is a service with two keys that wait, o-1 for the letter t-0-1, which is in a state, and o-2 for its next attempt;
// t-2-2, a message of o-3, is done between the list and the look. The list is asked for with the queries returned.
func fakeParked(t *testing.T, state string) (url string, asked func() []string) {
	t.Helper()
	requests := make(chan string, 100)
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, format, args...)
	}
	mux.HandleFunc("GET /admin/parked", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		requests <- r.URL.RawQuery
		switch {
		case q.Get("cursor") == "2":
			answer(w, `{"items":[%s]}`, parkedJSON)
		case q.Get("key") == "o-1" || q.Get("state") == "blocked":
			answer(w, `{"items":[%s]}`, parkedJSON)
		case q.Get("key") == "o-2":
			answer(w, `{"items":[%s]}`, retryingJSON)
		case q.Get("key") == "o-3":
			answer(w, `{"items":[%s]}`, strings.NewReplacer("o-1", "o-3", "t-0-1", "t-2-2").Replace(parkedJSON))
		case q.Get("key") != "" || q.Get("state") == "queued":
			answer(w, `{"items":[]}`)
		default:
			w.Header().Set("Link", `</admin/parked?cursor=2>; rel="next"`)
			answer(w, `{"items":[%s]}`, retryingJSON)
		}
	})
	mux.HandleFunc("GET /admin/parked/{id}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("id") {
		case "t-0-1", "t-0-2":
			answer(w, `%s,"waiting":[{"id":"t-0-1","event_type":"payment.charged","bytes":17,"sent_at":"2026-11-21T12:00:00Z","attempts":3,"blocks":true},
				{"id":"t-0-2","event_type":"payment.refunded","bytes":17,"sent_at":"2026-11-21T12:00:00Z"}]}`, strings.TrimSuffix(parkedJSON, "}"))
		case "t-1-7":
			answer(w, `%s,"waiting":[{"id":"t-1-7","event_type":"payment.charged","sent_at":"2026-11-21T12:00:00Z"}]}`, strings.TrimSuffix(retryingJSON, "}"))
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("GET /admin/dead-letters/t-0-1", func(w http.ResponseWriter, r *http.Request) {
		if state == "" {
			http.NotFound(w, r)
			return
		}
		answer(w, `{"id":"t-0-1","state":%q,"error_type":"permanent","error":"no such order"}`, state)
	})
	return serve(t, mux, requests)
}

func TestParkedCommands(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args, letter string
		code         int
		says         []string
		asked        []string
	}{
		{args: "list --service=order", says: []string{
			"order    o-2  retrying  t-1   60        5", "attempt 3 in 8", "order    o-1  blocked   t-0   2         34", "dead letter t-0-1\n2 keys.\nWho is blocked goes on",
		}, asked: []string{"limit=100", "limit=99&cursor=2"}},
		{args: "list --service=order --limit=1", says: []string{"o-2", "The 1 that wait longest; there are more: narrow the list, or raise --limit."}, asked: []string{"limit=1"}},
		{args: "list --service=order --state=blocked --group=order --topic=t --key=o-1 --json", says: []string{`"service": "order"`, `"letter": "t-0-1"`}, asked: []string{"group=order&topic=t&key=o-1&state=blocked&limit=100"}},
		{args: "list --state=queued --service=order", says: []string{"No keys like that wait."}, asked: []string{"state=queued&limit=100"}},
		{args: "list --state=queued --service=order --json", says: []string{"[]"}, asked: []string{"state=queued&limit=100"}},
		{args: "list --state=stuck", code: 2, says: []string{`--state must be one of "all","blocked","retrying","queued" but got "stuck"`}},
		{args: "list --service=nobody", code: 2, says: []string{"--service must be one of"}},
		{args: "list --limit=0", code: 1, says: []string{"--limit is 0, must be at least 1"}},
		{args: "show", code: 2, says: []string{`expected "<key>"`}},
		{args: "show o-1 --service=order", letter: "failed_again", says: []string{
			"order: key o-1 of t-0 is blocked", "2 messages, 34 bytes, since 2026-11-21T12:00:00Z", "for       dead letter t-0-1", "failed_again, permanent: no such order",
			"t-0-1 (dead letter)  payment.charged", "t-0-2                payment.refunded",
			"orderctl dlq redrive t-0-1 --service=order --reason=…", "orderctl dlq discard t-0-1 --service=order --reason=…",
		}, asked: []string{"key=o-1&limit=100"}},
		{args: "show o-1 --service=order", letter: "redriving", says: []string{"The dead letter is on its way back"}, asked: []string{"key=o-1&limit=100"}},
		{args: "show o-1 --service=order", says: []string{"Dead letter t-0-1 is not listed yet"}, asked: []string{"key=o-1&limit=100"}},
		{args: "show t-0-2 --service=order --json", letter: "waiting", says: []string{`"blocks": true`, `"dead_letter": {`, `"state": "waiting"`}, asked: []string{"key=t-0-2&limit=100"}},
		{args: "show o-2 --service=order", says: []string{"for    attempt 3 in ", "and 59 more", "There is nothing to be done"}, asked: []string{"key=o-2&limit=100"}},
		{args: "show o-3 --service=order", code: 1, says: []string{"nothing of key o-3 waits at order: 'orderctl parked list' shows what does"}, asked: []string{"key=o-3&limit=100"}},
		{args: "show nobody --service=payment", code: 1, says: []string{"nothing of key nobody waits at payment"}, asked: []string{"key=nobody&limit=100"}},
	} {
		t.Run(tc.args+tc.letter, func(t *testing.T) {
			t.Parallel()
			url, asked := fakeParked(t, tc.letter)
			var out strings.Builder
			require.Equal(t, tc.code, run(append(append([]string{"parked"}, strings.Fields(tc.args)...), everywhere(url)...), console{out: &out, err: &out}), out.String())
			for _, says := range tc.says {
				require.Contains(t, out.String(), says)
			}
			require.Equal(t, tc.asked, asked())
		})
	}
}
