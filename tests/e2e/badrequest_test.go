package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/internal/shop"
)

const address = `{"name":"Ada Lovelace","street":"Musterstrasse 1","postal_code":"10115","city":"Berlin","country":"DE"}`

// TestBadRequests sends what no client should. Every answer is a problem that says where and what is allowed, none is
// a server's fault, and nothing is written.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	good := func(lines string) string {
		return `{"customer_id":"` + c.ID + `","lines":` + lines + `,"shipping_address":` + address + `,"payment_method":"tok_approved"}`
	}
	one := `[{"sku":"MUG-BLUE","quantity":1}]`
	line := func(sku, quantity string) string { return good(`[{"sku":` + sku + `,"quantity":` + quantity + `}]`) }
	with := func(old, changed string) string { return strings.Replace(good(one), old, changed, 1) }
	key := []string{"Idempotency-Key", "key-" + c.ID}
	orders := "/v1/orders"
	cancel := "/v1/orders/" + c.Buy().OrderID + "/cancel"

	for _, tc := range []struct {
		name, method, service, path, body string
		headers                           []string
		status                            int
		// in and at are where the mistake is, if the answer names a field.
		in, at string
	}{
		{name: "malformed JSON", body: `{"customer_id":`, status: 400},
		{name: "no JSON at all", body: `hello`, status: 400},
		{name: "two documents", body: good(one) + good(one), status: 400},
		{name: "an array", body: `[]`, status: 400, in: "body"},
		{name: "null", body: `null`, status: 400, in: "body"},
		{name: "no body", body: ``, status: 400},
		{name: "an empty object", body: `{}`, status: 400, in: "body", at: "/customer_id"},
		{name: "unknown field", body: with(`"customer_id"`, `"price":1,"customer_id"`), status: 400, in: "body", at: "/price"},
		{name: "unknown field in a line", body: good(`[{"sku":"MUG-BLUE","quantity":1,"unit_price":1}]`), status: 400, in: "body", at: "/lines/0/unit_price"},
		{name: "quantity as text", body: line(`"MUG-BLUE"`, `"1"`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity as fraction", body: line(`"MUG-BLUE"`, `1.5`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity null", body: line(`"MUG-BLUE"`, `null`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity zero", body: line(`"MUG-BLUE"`, `0`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity negative", body: line(`"MUG-BLUE"`, `-1`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity huge", body: line(`"MUG-BLUE"`, `1001`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity beyond any integer", body: line(`"MUG-BLUE"`, `1e300`), status: 400, in: "body", at: "/lines/0/quantity"},
		{name: "quantity of many digits", body: line(`"MUG-BLUE"`, strings.Repeat("9", 400)), status: 400, in: "body"},
		{name: "unknown SKU", body: line(`"NO-SUCH-THING"`, `1`), status: 422, in: "body", at: "/lines/0/sku"},
		{name: "one SKU twice", body: good(`[{"sku":"MUG-BLUE","quantity":1},{"sku":"MUG-BLUE","quantity":1}]`), status: 422, in: "body", at: "/lines/1/sku"},
		{name: "SKU of wrong letters", body: line(`"mug"`, `1`), status: 400, in: "body", at: "/lines/0/sku"},
		{name: "no lines", body: good(`[]`), status: 400, in: "body", at: "/lines"},
		{name: "lines null", body: good(`null`), status: 400, in: "body", at: "/lines"},
		{name: "too many lines", body: good("[" + strings.Repeat(`{"sku":"MUG-BLUE","quantity":1},`, 50) + `{"sku":"MUG-BLUE","quantity":1}]`), status: 400, in: "body", at: "/lines"},
		{name: "over-long name", body: with("Ada Lovelace", strings.Repeat("a", 201)), status: 400, in: "body", at: "/shipping_address/name"},
		{name: "empty name", body: with("Ada Lovelace", ""), status: 400, in: "body", at: "/shipping_address/name"},
		{name: "name with NUL", body: with("Ada Lovelace", `A\u0000`), status: 400, in: "body", at: "/shipping_address/name"},
		{name: "country of three letters", body: with(`"DE"`, `"DEU"`), status: 400, in: "body", at: "/shipping_address/country"},
		{name: "address missing", body: `{"customer_id":"` + c.ID + `","lines":` + one + `,"payment_method":"tok_approved"}`, status: 400, in: "body", at: "/shipping_address"},
		{name: "customer of wrong letters", body: with(c.ID, "no spaces please"), status: 400, in: "body", at: "/customer_id"},
		{name: "over-long token", body: with("tok_approved", strings.Repeat("t", 129)), status: 400, in: "body", at: "/payment_method"},
		{name: "nested beyond reason", body: strings.Repeat("[", 20000), status: 400, in: "body"},
		{name: "content type text", body: good(one), headers: []string{"Content-Type", "text/plain"}, status: 415},
		{name: "content type missing", body: good(one), headers: []string{"Content-Type", ""}, status: 415},
		{name: "encoded body", body: good(one), headers: []string{"Content-Encoding", "gzip"}, status: 415},
		{name: "body over the limit", body: good(one) + strings.Repeat(" ", 2<<20), status: 413},
		{name: "no idempotency key", body: good(one), headers: []string{"Idempotency-Key", ""}, status: 400, in: "header", at: "Idempotency-Key"},
		{name: "over-long idempotency key", body: good(one), headers: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, in: "header", at: "Idempotency-Key"},
		{name: "cursor of nonsense", method: http.MethodGet, path: orders + "?cursor=nonsense", status: 400, in: "query", at: "cursor"},
		{name: "cursor of wrong letters", method: http.MethodGet, path: orders + "?cursor=%00%ff", status: 400},
		{name: "slip in a name", method: http.MethodGet, path: orders + "?costumer_id=c-1", status: 400, in: "query", at: "costumer_id"},
		{name: "limit twice", method: http.MethodGet, path: orders + "?limit=1&limit=2", status: 400, in: "query", at: "limit"},
		{name: "limit zero", method: http.MethodGet, path: orders + "?limit=0", status: 400, in: "query", at: "limit"},
		{name: "limit huge", method: http.MethodGet, path: orders + "?limit=101", status: 400, in: "query", at: "limit"},
		{name: "limit as text", method: http.MethodGet, path: orders + "?limit=ten", status: 400, in: "query", at: "limit"},
		{name: "unknown state", method: http.MethodGet, path: orders + "?state=lost", status: 400, in: "query", at: "state"},
		{name: "bad customer", method: http.MethodGet, path: orders + "?customer_id=a%20b", status: 400, in: "query", at: "customer_id"},
		{name: "unknown order", method: http.MethodGet, path: orders + "/no-such-order", status: 404},
		{name: "order id of wrong letters", method: http.MethodGet, path: orders + "/a%20b", status: 400, in: "path", at: "order_id"},
		{name: "over-long order id", method: http.MethodGet, path: orders + "/" + strings.Repeat("x", 65), status: 400, in: "path", at: "order_id"},
		{name: "timeline of an unknown order", method: http.MethodGet, path: orders + "/no-such-order/timeline", status: 404},
		{name: "cancel of an unknown order", path: orders + "/no-such-order/cancel", status: 404},
		{name: "If-Match of nonsense", path: cancel, headers: []string{"If-Match", "nonsense"}, status: 400, in: "header", at: "If-Match"},
		{name: "wrong method", method: http.MethodDelete, path: orders, status: 405},
		{name: "unknown path", method: http.MethodGet, path: "/v1/nothing", status: 404},

		{name: "restock by nothing", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":0}`, status: 400, in: "body", at: "/quantity"},
		{name: "restock by a negative", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":-5}`, status: 400, in: "body", at: "/quantity"},
		{name: "restock by too much", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":1000001}`, status: 400, in: "body", at: "/quantity"},
		{name: "restock as text", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":"5"}`, status: 400, in: "body", at: "/quantity"},
		{name: "restock with an unknown field", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":5,"free":true}`, status: 400, in: "body", at: "/free"},
		{name: "restock of malformed JSON", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":`, status: 400},
		{name: "restock without a key", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `{"quantity":5}`, headers: []string{"Idempotency-Key", ""}, status: 400, in: "header", at: "Idempotency-Key"},
		{name: "restock of an unknown SKU", service: "inventory", path: "/v1/stock/NO-SUCH-THING/restock", body: `{"quantity":5}`, status: 404},
		{name: "restock as form", service: "inventory", path: "/v1/stock/MUG-BLUE/restock", body: `quantity=5`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "stock of an unknown SKU", service: "inventory", method: http.MethodGet, path: "/v1/stock/NO-SUCH-THING", status: 404},
		{name: "stock of wrong letters", service: "inventory", method: http.MethodGet, path: "/v1/stock/mug", status: 400, in: "path", at: "sku"},
		{name: "reservation of an unknown order", service: "inventory", method: http.MethodGet, path: "/v1/reservations/no-such-order", status: 404},

		{name: "payment of an unknown order", service: "payment", method: http.MethodGet, path: "/v1/payments/no-such-order", status: 404},
		{name: "shipment of an unknown order", service: "shipping", method: http.MethodGet, path: "/v1/shipments/no-such-order", status: 404},
		{name: "notifications by a bad cursor", service: "notification", method: http.MethodGet, path: "/v1/customers/x/notifications?cursor=nonsense", status: 400, in: "query", at: "cursor"},
		{name: "stream from a bad position", service: "notification", method: http.MethodGet, path: "/v1/customers/x/notifications/stream?last_event_id=yesterday", status: 400, in: "query", at: "last_event_id"},
		{name: "minutes from a bad time", service: "analytics", method: http.MethodGet, path: "/v1/figures/orders-per-minute?from=yesterday", status: 400, in: "query", at: "from"},
		{name: "minutes that end before they begin", service: "analytics", method: http.MethodGet, path: "/v1/figures/orders-per-minute?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", status: 400},
		{name: "redrive of an unknown dead letter", service: "payment", path: "/admin/dead-letters/payment.commands-0-999999/redrive", body: `{"actor":"e2e","reason":"test"}`, status: 404},
		{name: "redrive without a reason", service: "payment", path: "/admin/dead-letters/payment.commands-0-999999/redrive", body: `{"actor":"e2e"}`, status: 400, in: "body", at: "/reason"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			if tc.service == "" {
				tc.service = "order"
			}
			if tc.path == "" {
				tc.path = orders
			}
			var body []byte
			if tc.method == http.MethodPost && !strings.HasSuffix(tc.path, "/cancel") {
				body = []byte(tc.body)
			}
			headers := append(key[:2:2], tc.headers...)
			p := system.Send(t, tc.method, tc.service, tc.path, body, headers...).Problem(t, tc.status)
			if tc.in == "" {
				require.NotEmpty(t, p.Detail)
				return
			}
			require.NotEmpty(t, p.Errors, "%+v", p)
			var at []string
			for _, e := range p.Errors {
				require.NotEmpty(t, e.Detail, "%+v", p)
				if e.In == tc.in {
					at = append(at, e.Path)
				}
			}
			require.NotEmpty(t, at, "%+v", p)
			if tc.at != "" {
				require.Contains(t, at, tc.at, "%+v", p)
			}
		})
	}
	all, err := system.AllOrders(shop.Context(t), c.ID)
	require.NoError(t, err)
	require.Len(t, all, 1, "a bad request has written something")
	// The key of the bad requests is still free.
	_, err = system.Place(shop.Context(t), key[1], c.Request())
	require.NoError(t, err)
}
