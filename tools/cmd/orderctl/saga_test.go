package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sagaJSON = `{"saga_id":"o-1","definition":"order","definition_version":1,"version":7,"state":"compensation_failed",
	"waits_for":{"step":"reserve_stock","command":"undo","attempt":10,"since":"2026-11-21T12:00:00Z"},
	"failure":{"code":"timed_out","detail":"too slow"},"trouble":"step reserve_stock did not answer to 10 undo commands",
	"started_at":"2026-11-21T12:00:00Z","updated_at":"2026-11-21T12:00:05Z"}`

// fakeOrders is an order service with one order, o-1, whose saga is stuck, and remembers what was asked of it; the other
// services know a dead letter and a notification.
func fakeOrders(t *testing.T) (url string, asked func() []string) {
	t.Helper()
	requests := make(chan string, 100)
	mux := http.NewServeMux()
	answer := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				sent, _ := io.ReadAll(r.Body) // the test looks at it
				requests <- fmt.Sprint(r.URL.Path, " ", r.Header.Get("If-Match"), " ", string(sent))
			} else if r.URL.RawQuery != "" && strings.Contains(pattern, "sagas") {
				requests <- r.URL.RawQuery
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, body)
		})
	}
	entries := `[{"at":"2026-11-21T12:00:00Z","kind":"request","text":"order placed","cause":"a request of customer c-1"},
		{"at":"2026-11-21T12:00:02Z","kind":"reply","text":"reply reserve_stock: done","cause":"message m-1"}]`
	answer("GET /admin/sagas", `{"items":[`+sagaJSON+`]}`)
	answer("GET /admin/sagas/o-1", `{"saga":`+sagaJSON+`,"done":[{"command":"do","step":"reserve_stock","at":"2026-11-21T12:00:02Z"}],
		"left":[{"command":"undo","step":"reserve_stock"}],"may":[{"verb":"retry","step":"reserve_stock","sends":[{"command":"undo","step":"reserve_stock"}],"state":"compensating"},
		{"verb":"skip","step":"reserve_stock","sends":[],"state":"compensated"}],"steps":[],"entries":`+entries+`}`)
	for _, verb := range []string{"retry", "skip", "compensate"} {
		answer("POST /admin/sagas/o-1/"+verb, sagaJSON)
	}
	answer("GET /v1/orders/o-1", `{"order_id":"o-1","customer_id":"c-1","created_at":"2026-11-21T12:00:00Z"}`)
	answer("GET /v1/orders/o-1/timeline", `{"order_id":"o-1","state":"cancelling","status":"compensation_failed","started_at":"2026-11-21T12:00:00Z",
		"steps":[{"name":"reserve_stock","status":"skipped","undo_skipped":true,"attempts":1,"undo_attempts":10}],"entries":`+entries+`}`)
	letters := map[string]string{"o-1": `{"id":"inventory.commands-0-1","key":"o-1","state":"redriven","event_type":"inventory.release","error_type":"transient","error":"no answer",
		"retries":2,"failures":4,"failed_at":"2026-11-21T12:00:03.5Z","updated_at":"2026-11-21T12:00:04Z","actor":"ada","reason":"mended"}`}
	mux.HandleFunc("GET /admin/dead-letters", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"items":[%s]}`, letters[r.URL.Query().Get("key")])
	})
	// The last verb first; one of an earlier version, which did not keep the failure, and there were others before.
	trails := map[string]string{"inventory.commands-0-1": `
		{"seq":6,"letter":"inventory.commands-0-1","at":"2026-11-21T12:00:03.6Z","actor":"ada","verb":"redrive","reason":"mended","job":"j-1","failed_at":"2026-11-21T12:00:03.5Z","error":"transient: no answer"},
		{"seq":5,"letter":"inventory.commands-0-1","at":"2026-11-21T12:00:03.2Z","actor":"bob","verb":"redrive","reason":"again","failed_at":"2026-11-21T12:00:03Z","error":"undecodable: no JSON","retries":5},
		{"seq":4,"letter":"inventory.commands-0-1","at":"2026-11-21T12:00:03.1Z","actor":"bob","verb":"edit","reason":"typo","detail":"7 bytes in the place of 2","failed_at":"2026-11-21T12:00:03Z","error":"undecodable: no JSON","retries":5},
		{"seq":3,"letter":"inventory.commands-0-1","at":"2026-11-21T12:00:02.8Z","actor":"bob","verb":"redrive","reason":"try it"}`}
	mux.HandleFunc("GET /admin/dead-letters/audit", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Link", `</admin/dead-letters/audit?cursor=more>; rel="next"`)
		_, _ = fmt.Fprintf(w, `{"items":[%s]}`, trails[r.URL.Query().Get("letter")])
	})
	parked := map[string]string{"o-1": parkedJSON}
	mux.HandleFunc("GET /admin/parked", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"items":[%s]}`, parked[r.URL.Query().Get("key")])
	})
	answer("GET /v1/customers/c-1/notifications", `{"items":[{"id":"n","order_id":"o-1","kind":"order_placed","title":"We have your order","at":"2026-11-21T12:00:01Z"},
		{"id":"n2","order_id":"o-2","kind":"order_placed","title":"Another","at":"2026-11-21T12:00:01Z"}]}`)
	return serve(t, mux, requests)
}

func TestSagaCommands(t *testing.T) {
	t.Parallel()
	by := `{"actor":"ada","reason":"mended"}`
	for _, tc := range []struct {
		args  string
		code  int
		says  []string
		asked []string
	}{
		{
			args: "list", says: []string{"o-1  compensation_failed  undo reserve_stock #10", "timed_out: step reserve_stock did not answer", "1 sagas."},
			asked: []string{"state=running&state=compensating&state=compensation_failed&limit=100"},
		},
		{
			args: "list --state=compensation_failed --step=reserve_stock --error=timed_out --limit=5 --json", says: []string{`"saga_id": "o-1"`},
			asked: []string{"state=compensation_failed&step=reserve_stock&error=timed_out&limit=5"},
		},
		{args: "list --state=nobody", code: 2, says: []string{"--state must be one of"}},
		{args: "list --limit=0", code: 1, says: []string{"--limit is 0, must be 1 or more"}},
		{args: "list --older=-5m", code: 1, says: []string{"--older is -5m0s, must not be negative"}},
		{args: "show o-1", says: []string{
			"Saga o-1 is compensation_failed, version 7", "do reserve_stock, 2026-11-21T12:00:02Z", "sent 10 times since 2026-11-21T12:00:00Z", "given up",
			"orderctl saga retry o-1 --version=7 --reason=…\n      it is compensating then, sends undo reserve_stock",
			"orderctl saga skip o-1 --step=reserve_stock --version=7 --reason=…\n      it is compensated then", "+2.000 s  reply reserve_stock: done",
			"Parked: at order 2 messages of t-0 wait for dead letter t-0-1, since 2026-11-21T12:00:00Z; 'orderctl parked show o-1' says more",
		}},
		{args: "show o-1 --json", says: []string{`"parked": [`, `"letter": "t-0-1"`, `"missing": []`, `"version": 7`}},
		{args: "list --older=soon", code: 2, says: []string{`expected duration but got "soon"`}},
		{args: "show", code: 2, says: []string{`expected "<id>"`}},
		{args: "retry nobody --version=1 --actor=ada --reason=mended", code: 1, says: []string{"retry saga nobody: 404"}},
		{args: "compensate o-1 --version=last --actor=ada --reason=mended", code: 2, says: []string{`--version: expected a valid 64 bit int but got "last"`}},
		{args: "show nobody", code: 1, says: []string{"read saga nobody: 404"}},
		{args: "retry o-1 --actor=ada --reason=mended", code: 2, says: []string{"missing flags: --version"}},
		{args: "retry o-1 --version=7 --actor=ada", code: 2, says: []string{"missing flags: --reason"}},
		{args: "retry o-1 --version=0 --actor=ada --reason=mended", code: 1, says: []string{"--version is 0, must be 1 or more: 'orderctl saga show o-1' tells it"}},
		{args: "skip o-1 --version=7 --actor=ada --reason=mended", code: 2, says: []string{"missing flags: --step"}},
		{
			args: "retry o-1 --version=7 --actor=ada --reason=mended", says: []string{"Saga o-1 is compensation_failed, version 7, and waits for the answer to undo reserve_stock #10."},
			asked: []string{`/admin/sagas/o-1/retry "7" ` + by},
		},
		{args: "skip o-1 --step=reserve_stock --version=7 --actor=ada --reason=mended --json", says: []string{`"version": 7`}, asked: []string{`/admin/sagas/o-1/skip "7" {"actor":"ada","reason":"mended","step":"reserve_stock"}`}},
		{args: "compensate o-1 --version=7 --actor=ada --reason=mended", says: []string{"Saga o-1"}, asked: []string{`/admin/sagas/o-1/compensate "7" ` + by}},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			url, asked := fakeOrders(t)
			var out strings.Builder
			require.Equal(t, tc.code, run(append([]string{"saga"}, append(strings.Fields(tc.args), everywhere(url)...)...), console{out: &out, err: &out}), out.String())
			for _, says := range tc.says {
				require.Contains(t, out.String(), says)
			}
			require.Equal(t, tc.asked, asked())
		})
	}
}

// TestTimelineIsJoined: one list of what all services know, in the order of time, and who could not be asked.
func TestTimelineIsJoined(t *testing.T) {
	t.Parallel()
	url, _ := fakeOrders(t)
	none := httptest.NewServer(http.NotFoundHandler())
	none.Close()
	args := []string{"order", "timeline", "o-1", "--payment-url=" + none.URL}
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"items":[]}`)
	}))
	t.Cleanup(empty.Close)
	for name, at := range map[string]string{"order": url, "notification": url, "inventory": empty.URL, "shipping": empty.URL, "analytics": empty.URL} {
		args = append(args, "--"+name+"-url="+at)
	}
	var out strings.Builder
	require.Zero(t, run(args, console{out: &out, err: &out}), out.String())
	text := out.String()
	require.Contains(t, text, "reserve_stock  undo skipped  1")
	for _, line := range []string{
		"+0.000 s  order         order placed ", "+1.000 s  notification  customer told: We have your order", "+2.000 s  order         reply reserve_stock: done",
		"+2.800 s  order         redrive of dead letter inventory.commands-0-1 ", "operator bob: try it\n",
		"+3.000 s  order         inventory.release given up after 5 retries: dead letter inventory.commands-0-1 ", "undecodable: no JSON\n",
		"+3.100 s  order         edit of dead letter inventory.commands-0-1 ", "operator bob: typo (7 bytes in the place of 2)\n",
		"+3.200 s  order         redrive of dead letter inventory.commands-0-1 ", "operator bob: again\n",
		"+3.500 s  order         inventory.release given up after 2 retries, the 4. time (2 of them not in this list): dead letter inventory.commands-0-1  ", "transient: no answer\n",
		"+3.600 s  order         redrive of dead letter inventory.commands-0-1 ", "operator ada: mended (job j-1)\n",
		"+4.000 s  order         dead letter inventory.commands-0-1 is redriven ", "operator ada: mended\n",
		"Parked: at order 2 messages of t-0 wait for dead letter t-0-1",
		"Missing: verbs on dead letter inventory.commands-0-1 but for the last 4: 'orderctl dlq audit --service=order --letter=inventory.commands-0-1 --limit=…' has them",
		"Missing: dead letters of payment: list the dead letters of payment:", "Missing: list the parked keys of payment:",
	} {
		before, after, found := strings.Cut(text, line)
		require.True(t, found, "%s\nin\n%s", line, before)
		text = after
	}
	require.NotContains(t, out.String(), "Another")

	var whole strings.Builder
	require.Zero(t, run(append(args, "--json"), console{out: &whole, err: &whole}))
	require.Contains(t, whole.String(), `"missing": [`)
	require.Contains(t, whole.String(), `"cause": "operator ada: mended"`)

	require.Equal(t, 1, run([]string{"order", "timeline", "o-1", "--order-url=" + none.URL}, console{out: &out, err: &out}), "without the order service there is none")
}
