package httpapi_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/httpapi"
)

func TestErrorTable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		status int
		detail string
	}{
		"a problem":          {fmt.Errorf("x: %w", httpapi.NotFound("order %s", "7")), 404, "order 7"},
		"a problem, marked":  {fault.AsTransient(httpapi.Conflict("too late")), 409, "too late"},
		"permanent":          {fault.Permanentf("no such thing"), 422, "no such thing"},
		"unavailable":        {fault.Unavailablef("postgres is away"), 503, "something that this service needs is away; try again"},
		"client gone":        {context.Canceled, 503, "something that this service needs is away; try again"},
		"unmarked":           {errors.New("table orders is missing"), 500, "an unexpected error; the request id finds it in the logs"},
		"a body that is big": {&http.MaxBytesError{Limit: 7}, 413, "the body must be at most 7 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, document, func(r chi.Router) {
				r.Get("/fail", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("ETag", `"1"`)
					httpapi.Write(w, r, tc.err)
				})
			})
			w, p := a.do(t, httptest.NewRequest(http.MethodGet, "/fail", nil))
			require.Equal(t, tc.status, w.Code)
			require.Equal(t, tc.detail, p.Detail)
			require.Equal(t, "/fail", p.Instance)
			require.Equal(t, "about:blank", p.Type)
			require.Empty(t, w.Header().Get("ETag"))
			require.Equal(t, tc.status == 503, w.Header().Get("Retry-After") != "")
			if tc.status >= 500 {
				require.Contains(t, a.logs.String(), tc.err.Error())
				require.Contains(t, a.logs.String(), p.RequestID)
			}
		})
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	var cause event.Cause
	var caller httpapi.Caller
	a := newAPI(t, document, func(r chi.Router) {
		r.Get("/things/{id}", func(w http.ResponseWriter, r *http.Request) {
			cause, caller = event.CauseFrom(r.Context()), httpapi.CallerFrom(r.Context())
		})
		r.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("secret detail") })
		r.Get("/half", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half"))
			panic("in the middle")
		})
	})
	r := httptest.NewRequest(http.MethodGet, "/things/42", nil)
	r.Header.Set("X-Request-Id", "req-1")
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w, _ := a.do(t, r)
	require.Equal(t, "req-1", w.Header().Get("X-Request-Id"))
	require.Equal(t, event.Cause{ID: "req-1"}, cause)
	require.Equal(t, httpapi.Trusted, caller)
	require.Contains(t, a.logs.String(), `"trace_id":"0af7651916cd43dd8448eb211c80319c"`)

	r = httptest.NewRequest(http.MethodGet, "/things/43", nil)
	r.Header.Set("X-Request-Id", "not sane\t")
	w, _ = a.do(t, r)
	require.Regexp(t, `^[0-9a-f-]{36}$`, w.Header().Get("X-Request-Id"))

	w, p := a.do(t, httptest.NewRequest(http.MethodGet, "/panic", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.NotContains(t, w.Body.String(), "secret")
	require.Contains(t, a.logs.String(), "secret detail")
	require.NotEmpty(t, p.RequestID)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/half", nil))
	})
	a.do(t, httptest.NewRequest("BREW", "/nowhere/7", nil))

	count, err := testutil.GatherAndCount(a.registry, "http_server_request_duration_seconds")
	require.NoError(t, err)
	require.Equal(t, 4, count, "things, panic, half, unmatched: no ids in labels")
}

func TestTooManyAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, document)
	inside, leave := make(chan struct{}), make(chan struct{})
	r, err := httpapi.NewRouter(httpapi.Deps{Logger: logger(a.logs), Registry: newRegistry(), MaxInFlight: 1})
	require.NoError(t, err)
	r.Get("/", func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-leave
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}()
	<-inside
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	close(leave)
	<-done
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	a := newAPI(t, document)
	r, err := httpapi.NewRouter(httpapi.Deps{
		Logger: logger(a.logs), Registry: newRegistry(),
		Identify: func(r *http.Request) (httpapi.Caller, error) {
			if r.Header.Get("Authorization") == "" {
				return httpapi.Caller{}, httpapi.NewProblem(http.StatusUnauthorized, "who are you?")
			}
			return httpapi.Caller{Kind: httpapi.Customer, ID: "c1"}, nil
		},
	})
	require.NoError(t, err)
	var caller httpapi.Caller
	r.Get("/", func(_ http.ResponseWriter, r *http.Request) { caller = httpapi.CallerFrom(r.Context()) })
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusUnauthorized, w.Code)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("Authorization", "x")
	r.ServeHTTP(httptest.NewRecorder(), req)
	require.True(t, caller.Owns("c1"))
	require.False(t, caller.Owns("c2"))
	require.False(t, httpapi.CallerFrom(t.Context()).Owns("c1"), "no caller is no trusted caller")
}

func TestETags(t *testing.T) {
	t.Parallel()
	status := func(err error) int {
		if err == nil {
			return 0
		}
		return httpapi.ProblemOf(err).Status
	}
	for header, want := range map[string]int{
		``: 0, `*`: 0, `"7"`: 0, `"1", "7"`: 0, `"8"`: 412, `W/"7"`: 412, `7`: 400, `"`: 400, `"7`: 400,
	} {
		require.Equal(t, want, status(httpapi.CheckIfMatch(header, 7)), header)
	}
	require.Equal(t, 428, status(httpapi.RequireIfMatch(" ", 7)))
	require.Equal(t, 0, status(httpapi.RequireIfMatch(httpapi.ETag(7), 7)))
}

type position struct {
	At int64  `json:"at"`
	ID string `json:"id"`
}

func TestCursors(t *testing.T) {
	t.Parallel()
	at := position{At: 1 << 60, ID: "ä/x"}
	text, err := httpapi.EncodeCursor("orders/1", at)
	require.NoError(t, err)
	got, err := httpapi.DecodeCursor[position]("orders/1", text)
	require.NoError(t, err)
	require.Equal(t, at, got)
	made := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	for name, bad := range map[string]string{
		"empty": "", "garbage": "!!", "padded": text + "=", "half": text[:len(text)/2], "other list": made(`{"k":"stock/1","a":{"at":1,"id":"x"}}`),
		"unknown field": made(`{"k":"orders/1","a":{"at":1,"id":"x","z":1}}`), "spaces": made(`{"k":"orders/1", "a":{"at":1,"id":"x"}}`),
		"type": made(`{"k":"orders/1","a":{"at":"1","id":"x"}}`), "NUL": made(`{"k":"orders/1","a":{"at":1,"id":"\u0000"}}`),
		"missing": made(`{"k":"orders/1","a":{"at":1}}`), "long": made(`{"k":"orders/1","a":{"at":1,"id":"` + string(make([]byte, 2000)) + `"}}`), "null": made("null"),
	} {
		_, err := httpapi.DecodeCursor[position]("orders/1", bad)
		require.Error(t, err, name)
		require.Equal(t, 400, httpapi.ProblemOf(err).Status, name)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("eyJrIjoiYSIsImEiOnt9fQ")
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := httpapi.DecodeCursor[position]("k", text); err == nil {
			again, err := httpapi.EncodeCursor("k", at)
			require.NoError(t, err)
			require.Equal(t, text, again)
		}
	})
}

func TestNextLink(t *testing.T) {
	t.Parallel()
	var link string
	a := newAPI(t, document, func(r chi.Router) {
		r.Get("/list", func(_ http.ResponseWriter, r *http.Request) { link = httpapi.NextLink(r.Context(), "abc") })
	})
	a.do(t, httptest.NewRequest(http.MethodGet, "/list?state=x%26y&cursor=old&limit=2", nil))
	require.Equal(t, `</list?cursor=abc&limit=2&state=x%26y>; rel="next"`, link)
}
