package books_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// balanced is what six services say whose books balance: one confirmed order, one refunded.
func balanced() map[string]string {
	const order = `{"order_id":%q,"customer_id":"ada","state":%q,"total":{"amount":2500,"currency":"EUR"},"lines":[{"sku":"MUG","quantity":2}]%s}`
	note := func(order, kind string) string { return fmt.Sprintf(`{"order_id":%q,"kind":%q}`, order, kind) }
	return map[string]string{
		"/v1/orders": `{"items":[` + fmt.Sprintf(order, "o-1", "confirmed", "") + "," +
			fmt.Sprintf(order, "o-2", "cancelled", `,"failure":{"code":"shipping_refused"}`) + `]}`,
		"/v1/stock":            `{"items":[{"sku":"MUG","received":10,"available":8,"reserved":0,"shipped":2}]}`,
		"/v1/payments/totals":  `{"currencies":[{"currency":"EUR","charged":5000,"refunded":2500,"refunds":1}],"provider":[{"currency":"EUR","charged":5000,"refunded":2500}]}`,
		"/v1/shipments/totals": `{"arranged":1,"refused":1}`,
		"/v1/customers/ada/notifications": `{"items":[` + strings.Join([]string{
			note("o-1", "order_placed"), note("o-1", "order_confirmed"),
			note("o-2", "order_placed"), note("o-2", "order_cancelled"), note("o-2", "order_refunded"),
		}, ",") + `]}`,
		"/v1/figures":         `{"orders":{"total":2,"confirmed":1,"cancelled":1},"revenue":[{"amount":2500,"currency":"EUR"}]}`,
		"/admin/dead-letters": `{"items":[{"id":"t-0-1","state":"redriven"}]}`,
	}
}

func check(t *testing.T, answers map[string]string, o books.Options) books.Audit {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, answers[r.URL.Path])
	}))
	t.Cleanup(server.Close)
	urls := map[string]string{}
	for _, service := range client.Services() {
		urls[service] = server.URL
	}
	s, err := client.New(client.Addresses{URLs: urls})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	audit, err := books.Check(t.Context(), s, o)
	require.NoError(t, err)
	return audit
}

func TestBalanced(t *testing.T) {
	t.Parallel()
	audit := check(t, balanced(), books.Options{})
	require.NoError(t, audit.Err())
	require.True(t, audit.OK)
	for _, f := range audit.Findings {
		require.True(t, f.OK, f.Name)
		require.NotEmpty(t, f.Says)
	}
}

func TestNamesWhatIsOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ path, old, changed, says string }{
		{"/v1/orders", `"confirmed"`, `"pending"`, "order o-1 is pending"},
		{"/v1/stock", `"available":8`, `"available":9`, "MUG: available + reserved + shipped is 11, must be 10"},
		{"/v1/stock", `"reserved":0,"shipped":2`, `"reserved":2,"shipped":0`, "MUG: reserved is 2, must be 0"},
		{"/v1/stock", `"available":8,"reserved":0,"shipped":2`, `"available":7,"reserved":0,"shipped":3`, "MUG: shipped is 3, must be 2"},
		{"/v1/payments/totals", `"charged":5000,"refunded":2500,"refunds"`, `"charged":7500,"refunded":2500,"refunds"`, "charged − refunded in EUR is 5000, must be 2500"},
		{"/v1/payments/totals", `"refunded":2500}]}`, `"refunded":0}]}`, "the provider's ledger in EUR is 5000, must be 2500"},
		{"/v1/shipments/totals", `"arranged":1`, `"arranged":2`, "arranged is 2, must be 1"},
		{"/v1/customers/ada/notifications", `"order_confirmed"`, `"order_placed"`, "order_placed was told 2 times, must be 1"},
		{"/v1/customers/ada/notifications", `"order_refunded"`, `"order_delayed"`, "refunds told is 0, must be 1"},
		{"/v1/figures", `"confirmed":1`, `"confirmed":2`, "confirmed is 2, must be 1"},
		{"/v1/figures", `"amount":2500`, `"amount":1`, "revenue in EUR is 1, must be 2500"},
		{"/admin/dead-letters", "redriven", "waiting", "payment: t-0-1 is waiting"},
	} {
		answers := balanced()
		require.Contains(t, answers[tc.path], tc.old)
		answers[tc.path] = strings.Replace(answers[tc.path], tc.old, tc.changed, 1)
		audit := check(t, answers, books.Options{})
		require.False(t, audit.OK, tc.says)
		require.ErrorContains(t, audit.Err(), tc.says)
	}
}

func TestExpectedDeadLettersMayLie(t *testing.T) {
	t.Parallel()
	answers := balanced()
	answers["/admin/dead-letters"] = strings.Replace(answers["/admin/dead-letters"], "redriven", "waiting", 1)
	audit := check(t, answers, books.Options{Expected: func(_ string, l letters.Letter) bool { return l.ID == "t-0-1" }})
	require.NoError(t, audit.Err())
}

func TestAmount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "25.07 EUR", books.Amount(2507, "EUR"))
	require.Equal(t, "-0.05 EUR", books.Amount(-5, "EUR"))
}
