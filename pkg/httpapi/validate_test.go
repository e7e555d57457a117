package httpapi_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/httpapi"
)

func body(path, detail string) httpapi.FieldError {
	return httpapi.FieldError{In: "body", Path: path, Detail: detail}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const lines = `"lines":[{"sku":"A","quantity":1}]`
	for name, tc := range map[string]struct {
		body   string
		status int
		detail string
		errors []httpapi.FieldError
	}{
		"good":             {`{"customer_id":"c",` + lines + `}`, 200, "", nil},
		"empty":            {``, 400, "", []httpapi.FieldError{body("", "is required")}},
		"malformed":        {`{"customer_id":}`, 400, "the body is not JSON: invalid character '}' looking for beginning of value at byte 15", nil},
		"cut off":          {`{"customer_id":"c"`, 400, "the body is not JSON: it ends too early, after byte 17", nil},
		"two values":       {`{"customer_id":"c",` + lines + `}{}`, 400, "the body must be one JSON value, more follows at byte 55", nil},
		"no object":        {`[]`, 400, "", []httpapi.FieldError{body("", "must be an object")}},
		"null":             {`null`, 400, "", []httpapi.FieldError{body("", "must not be null")}},
		"unknown field":    {`{"customer_id":"c","lines":[{"sku":"A","quantity":1,"price/x":2}]}`, 400, "", []httpapi.FieldError{body("/lines/0/price~1x", "is not a known field; known are quantity, sku")}},
		"missing":          {`{"lines":[{"quantity":1}]}`, 400, "", []httpapi.FieldError{body("/customer_id", "is required"), body("/lines/0/sku", "is required")}},
		"wrong type":       {`{"customer_id":7,"lines":[{"sku":"A","quantity":"1"}]}`, 400, "", []httpapi.FieldError{body("/customer_id", "must be a string"), body("/lines/0/quantity", "must be a whole number")}},
		"null field":       {`{"customer_id":null,` + lines + `}`, 400, "", []httpapi.FieldError{body("/customer_id", "must not be null")}},
		"zero":             {`{"customer_id":"c","lines":[{"sku":"A","quantity":0}]}`, 400, "", []httpapi.FieldError{body("/lines/0/quantity", "must be at least 1")}},
		"negative":         {`{"customer_id":"c","lines":[{"sku":"A","quantity":-1}]}`, 400, "", []httpapi.FieldError{body("/lines/0/quantity", "must be at least 1")}},
		"huge":             {`{"customer_id":"c","lines":[{"sku":"A","quantity":99999999999999999999}]}`, 400, "", nil},
		"large":            {`{"customer_id":"c","lines":[{"sku":"A","quantity":1000001}]}`, 400, "", []httpapi.FieldError{body("/lines/0/quantity", "must be at most 1000000")}},
		"beyond float":     {`{"customer_id":"c","lines":[{"sku":"A","quantity":1e400}]}`, 400, "", []httpapi.FieldError{body("/lines/0/quantity", "must be a number between -1.8e308 and 1.8e308")}},
		"fraction":         {`{"customer_id":"c","lines":[{"sku":"A","quantity":1.5}]}`, 400, "", []httpapi.FieldError{body("/lines/0/quantity", "must be a whole number")}},
		"exponent":         {`{"customer_id":"c","lines":[{"sku":"A","quantity":1e3}]}`, 400, "", []httpapi.FieldError{body("/lines/quantity", "must be a whole number of 64 bits, written without fraction or exponent, is number 1e3")}},
		"too many":         {`{"customer_id":"c","lines":[{"sku":"A","quantity":1},{"sku":"A","quantity":1},{"sku":"A","quantity":1}]}`, 400, "", []httpapi.FieldError{body("/lines", "must have at most 2 items")}},
		"too few":          {`{"customer_id":"c","lines":[]}`, 400, "", []httpapi.FieldError{body("/lines", "must have at least 1 item")}},
		"too long":         {`{"customer_id":"c","note":"12345678901",` + lines + `}`, 400, "", []httpapi.FieldError{body("/note", "must have at most 10 characters")}},
		"pattern":          {`{"customer_id":"a b",` + lines + `}`, 400, "", []httpapi.FieldError{body("/customer_id", "must match ^[A-Za-z0-9_-]{1,64}$")}},
		"enum":             {`{"customer_id":"c","kind":"x",` + lines + `}`, 400, "", []httpapi.FieldError{body("/kind", "must be one of gift, plain")}},
		"exclusive":        {`{"customer_id":"c","price":0,` + lines + `}`, 400, "", []httpapi.FieldError{body("/price", "must be more than 0")}},
		"format":           {`{"customer_id":"c","at":"noon",` + lines + `}`, 400, "", []httpapi.FieldError{body("/at", "must be a valid date-time")}},
		"allOf":            {`{"customer_id":"c","address":{"zip":"1234"},` + lines + `}`, 400, "", []httpapi.FieldError{body("/address/city", "is required"), body("/address/zip", "must have at most 3 characters")}},
		"twice":            {`{"customer_id":"c","customer_id":"d",` + lines + `}`, 400, "", []httpapi.FieldError{body("/customer_id", "must not be given twice")}},
		"NUL":              {`{"customer_id":"c","free":{"a":["x\u0000"]},` + lines + `}`, 400, "", []httpapi.FieldError{body("/free/a/0", "must not contain the NUL character")}},
		"NUL in a name":    {`{"customer_id":"c","free":{"a\u0000":1},` + lines + `}`, 400, "", []httpapi.FieldError{body("/free/a\x00", "must not contain the NUL character")}},
		"invalid UTF-8":    {"{\"customer_id\":\"\xff\"}", 400, "the body must be UTF-8, is not at byte 16", nil},
		"deep":             {`{"free":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, 400, "", nil},
		"very deep, open":  {`{"free":` + strings.Repeat("[", 3000), 400, "", nil},
		"over the limit":   {`{"note":"` + strings.Repeat("x", 5000) + `"}`, 413, "the body must be at most 4096 bytes", nil},
		"long names":       {`{"` + strings.Repeat("x", 3000) + `":1}`, 400, "", nil},
		"lone surrogate":   {`{"customer_id":"\ud800",` + lines + `}`, 400, "", nil},
		"many mistakes":    {`{` + strings.Repeat(`"a":1,`, 1) + `"b":2}`, 400, "", []httpapi.FieldError{body("/a", "is not a known field; known are address, at, customer_id, free, kind, lines, note, price"), body("/b", "is not a known field; known are address, at, customer_id, free, kind, lines, note, price"), body("/customer_id", "is required"), body("/lines", "is required")}},
		"not json at all":  {`hello`, 400, "the body is not JSON: invalid character 'h' looking for beginning of value at byte 0", nil},
		"byte order mark":  {"\ufeff{}", 400, "", nil},
		"a comma too many": {`{"customer_id":"c",}`, 400, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, document)
			w, p := a.do(t, post(tc.body))
			require.Equal(t, tc.status, w.Code, w.Body)
			if tc.detail != "" {
				require.Equal(t, tc.detail, p.Detail)
			}
			if tc.errors != nil {
				require.ElementsMatch(t, tc.errors, p.Errors)
			}
			require.Less(t, w.Body.Len(), 4096)
			if tc.status != 200 && name != "exponent" {
				require.Zero(t, a.reached)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	const good = `{"customer_id":"c","lines":[{"sku":"A","quantity":1}]}`
	with := func(r *http.Request, header, value string) *http.Request {
		if value == "" {
			r.Header.Del(header)
		} else {
			r.Header.Set(header, value)
		}
		return r
	}
	get := func(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
		err    httpapi.FieldError
		header [2]string
	}{
		"charset":           {with(post(good), "Content-Type", "application/json; charset=utf-8"), 200, httpapi.FieldError{}, [2]string{}},
		"wrong type":        {with(post(good), "Content-Type", "text/plain"), 415, httpapi.FieldError{}, [2]string{"Accept", "application/json"}},
		"other json type":   {with(post(good), "Content-Type", "application/merge-patch+json"), 415, httpapi.FieldError{}, [2]string{}},
		"form":              {with(post(good), "Content-Type", "application/x-www-form-urlencoded"), 415, httpapi.FieldError{}, [2]string{}},
		"no type":           {with(post(good), "Content-Type", ""), 415, httpapi.FieldError{}, [2]string{}},
		"broken type":       {with(post(good), "Content-Type", ";;;"), 415, httpapi.FieldError{}, [2]string{}},
		"gzip":              {with(post(good), "Content-Encoding", "gzip"), 415, httpapi.FieldError{}, [2]string{}},
		"no key":            {with(post(good), "Idempotency-Key", ""), 400, httpapi.FieldError{In: "header", Path: "Idempotency-Key", Detail: "is required"}, [2]string{}},
		"long header":       {with(post(good), "Idempotency-Key", strings.Repeat("k", 301)), 400, httpapi.FieldError{In: "header", Path: "Idempotency-Key", Detail: "must have at most 300 characters"}, [2]string{}},
		"unknown path":      {get("/v1/nothing"), 404, httpapi.FieldError{}, [2]string{}},
		"trailing slash":    {get("/v1/orders/"), 404, httpapi.FieldError{}, [2]string{}},
		"wrong method":      {httptest.NewRequest(http.MethodDelete, "/v1/orders", nil), 405, httpapi.FieldError{}, [2]string{"Allow", "GET, POST"}},
		"strange method":    {httptest.NewRequest("BREW", "/v1/orders", nil), 405, httpapi.FieldError{}, [2]string{"Allow", "GET, POST"}},
		"good query":        {get("/v1/orders?limit=5&state=pending"), 200, httpapi.FieldError{}, [2]string{}},
		"limit word":        {get("/v1/orders?limit=many"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be a whole number"}, [2]string{}},
		"limit large":       {get("/v1/orders?limit=101"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be at most 100"}, [2]string{}},
		"state empty":       {get("/v1/orders?state="), 400, httpapi.FieldError{In: "query", Path: "state", Detail: "must be one of pending, confirmed"}, [2]string{}},
		"limit huge":        {get("/v1/orders?limit=1e400"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be a whole number"}, [2]string{}},
		"limit not finite":  {get("/v1/orders?limit=NaN"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be a whole number"}, [2]string{}},
		"state":             {get("/v1/orders?state=x"), 400, httpapi.FieldError{In: "query", Path: "state", Detail: "must be one of pending, confirmed"}, [2]string{}},
		"NUL in query":      {get("/v1/orders?customer_id=a%00"), 400, httpapi.FieldError{In: "query", Path: "customer_id", Detail: "must be UTF-8 without the NUL character"}, [2]string{}},
		"not UTF-8":         {get("/v1/orders?customer_id=%ff"), 400, httpapi.FieldError{In: "query", Path: "customer_id", Detail: "must be UTF-8 without the NUL character"}, [2]string{}},
		"bad escape":        {get("/v1/orders?customer_id=%zz"), 400, httpapi.FieldError{}, [2]string{}},
		"NUL in path":       {get("/v1/orders/a%00"), 400, httpapi.FieldError{}, [2]string{}},
		"slash in path":     {get("/v1/orders/a%2Fb"), 400, httpapi.FieldError{In: "path", Path: "order_id", Detail: "must match ^[a-z0-9-]{1,36}$"}, [2]string{}},
		"bad id":            {get("/v1/orders/A%20B"), 400, httpapi.FieldError{In: "path", Path: "order_id", Detail: "must match ^[a-z0-9-]{1,36}$"}, [2]string{}},
		"id":                {get("/v1/orders/a-1"), 200, httpapi.FieldError{}, [2]string{}},
		"body that breaks":  {httptest.NewRequest(http.MethodPost, "/v1/orders", broken{}), 400, httpapi.FieldError{}, [2]string{}},
		"dots in path":      {get("/v1/orders/../orders/x"), 404, httpapi.FieldError{}, [2]string{}},
		"body where none":   {httptest.NewRequest(http.MethodGet, "/v1/orders", strings.NewReader("{")), 200, httpapi.FieldError{}, [2]string{}},
		"other host":        {httptest.NewRequest(http.MethodGet, "http://x.example:99/v1/orders", nil), 200, httpapi.FieldError{}, [2]string{}},
		"several mistakes":  {get("/v1/orders?state=x&limit=0"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be at least 1"}, [2]string{}},
		"the same twice":    {get("/v1/orders?limit=1&limit=2"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "must be given once"}, [2]string{}},
		"a list":            {get("/v1/orders?tag=a&tag=b"), 200, httpapi.FieldError{}, [2]string{}},
		"a slip in a name":  {get("/v1/orders?sate=pending"), 400, httpapi.FieldError{In: "query", Path: "sate", Detail: "is not a parameter, must be one of customer_id, limit, state, tag"}, [2]string{}},
		"no parameters":     {get("/v1/orders/a-1?limit=1"), 400, httpapi.FieldError{In: "query", Path: "limit", Detail: "is not a parameter; there are none"}, [2]string{}},
		"semicolon":         {get("/v1/orders?a;b"), 400, httpapi.FieldError{}, [2]string{}},
		"HEAD is no method": {httptest.NewRequest(http.MethodHead, "/v1/orders", nil), 405, httpapi.FieldError{}, [2]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, document)
			w, p := a.do(t, tc.r)
			require.Equal(t, tc.status, w.Code, w.Body)
			if tc.err != (httpapi.FieldError{}) {
				require.Contains(t, p.Errors, tc.err)
			}
			if tc.header[0] != "" {
				require.Equal(t, tc.header[1], w.Header().Get(tc.header[0]))
			}
			require.Equal(t, tc.status == 200, a.reached == 1)
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

var _ io.Reader = broken{}

// The same surface under OpenAPI 3.1 goes through another validator, whose words are its own.
func TestOpenAPI31(t *testing.T) {
	t.Parallel()
	text := strings.Replace(document, "openapi: 3.0.3", "openapi: 3.1.0", 1)
	text = strings.Replace(text, "minimum: 0, exclusiveMinimum: true", "exclusiveMinimum: 0", 1)
	a := newAPI(t, text)
	w, p := a.do(t, post(`{"customer_id":"c","lines":[{"sku":"A","quantity":0}]}`))
	require.Equal(t, 400, w.Code)
	require.Len(t, p.Errors, 1, w.Body)
	require.Equal(t, "/lines/0/quantity", p.Errors[0].Path, w.Body)
}

func FuzzBodies(f *testing.F) {
	f.Add(`{"customer_id":"c","lines":[{"sku":"A","quantity":1}]}`)
	f.Add(`{"a":[1e400,{"b":"\u0000"}]}`)
	f.Add(`{"free":{"~/":[[[{}]]]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		w, _ := newAPI(t, document).do(t, post(text))
		require.Less(t, w.Code, 500)
	})
}
