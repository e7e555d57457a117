package httpapi_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/httpapi"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func openDB(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	require.NoError(t, db.Migrate(t.Context(), "httpapi", httpapi.Migrations))
	return db
}

func request(t *testing.T, client, key, body string, at time.Time) httpapi.IdempotentRequest {
	t.Helper()
	ctx := httpapi.WithCaller(t.Context(), httpapi.Caller{Kind: httpapi.Customer, ID: client})
	req, err := httpapi.NewIdempotentRequest(ctx, key, "POST /v1/orders", []byte(body), at)
	require.NoError(t, err)
	return req
}

// call is what a handler does.
func call(ctx context.Context, db *database.DB, i *httpapi.Idempotency, req httpapi.IdempotentRequest, fn func() (httpapi.Response, error)) (answer httpapi.Response, replayed bool, err error) {
	return callThen(ctx, db, i, req, fn, func() {})
}

// callThen calls then before the commit.
func callThen(ctx context.Context, db *database.DB, i *httpapi.Idempotency, req httpapi.IdempotentRequest, fn func() (httpapi.Response, error), then func()) (answer httpapi.Response, replayed bool, err error) {
	release, err := i.Begin(req)
	if err != nil {
		return answer, false, err
	}
	defer release()
	x := &httpapi.Exchange{Request: req, Do: fn}
	for err = httpapi.ErrTwin; errors.Is(err, httpapi.ErrTwin); {
		err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
			if err := i.Do(ctx, tx, []*httpapi.Exchange{x}); err != nil {
				return err
			}
			then()
			return x.Err
		})
	}
	return x.Answer, x.Replayed, err
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	db, i := openDB(t), httpapi.NewIdempotency(time.Hour)
	calls := 0
	effect := func() (httpapi.Response, error) {
		calls++
		return httpapi.JSONResponse(http.StatusAccepted, http.Header{"Location": {"/v1/orders/1"}, "Etag": {`"1"`}}, map[string]int{"n": calls})
	}
	first, replayed, err := call(t.Context(), db, i, request(t, "a", "k", `{"x":1,"y":2}`, noon), effect)
	require.NoError(t, err)
	require.False(t, replayed)

	// The same in other words, and the key in quotes.
	again, replayed, err := call(t.Context(), db, i, request(t, "a", `"k"`, `{ "y":2, "x":1 }`, noon.Add(time.Minute)), effect)
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, "true", again.Header.Get(httpapi.HeaderReplayed))
	again.Header.Del(httpapi.HeaderReplayed)
	require.Equal(t, first, again)
	require.Equal(t, 1, calls)

	_, _, err = call(t.Context(), db, i, request(t, "a", "k", `{"x":2}`, noon), effect)
	require.Equal(t, 422, httpapi.ProblemOf(err).Status, err)

	_, replayed, err = call(t.Context(), db, i, request(t, "b", "k", `{"x":1,"y":2}`, noon), effect)
	require.NoError(t, err)
	require.False(t, replayed, "keys are per client")

	_, replayed, err = call(t.Context(), db, i, request(t, "a", "k", `{"x":9}`, noon.Add(time.Hour)), effect)
	require.NoError(t, err)
	require.False(t, replayed, "an expired key is a new one")

	n, err := i.Purge(t.Context(), db, noon.Add(time.Hour), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n, "b's; a's lives again")
}

// A purge leaves a key alone that expired and that a request is taking for itself.
func TestPurgeSparesAKeyThatIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{"httpapi": httpapi.Migrations})
		i := httpapi.NewIdempotency(time.Hour)
		answer := func() (httpapi.Response, error) { return httpapi.JSONResponse(http.StatusAccepted, nil, 1) }
		_, _, err := call(t.Context(), db, i, request(t, "a", "k", `{}`, noon), answer)
		require.NoError(t, err)

		later := noon.Add(2 * time.Hour)
		purged := make(chan error, 1)
		_, replayed, err := callThen(t.Context(), db, i, request(t, "a", "k", `{}`, later), answer, func() {
			go func() {
				_, err := i.Purge(context.WithoutCancel(t.Context()), db, later, 10)
				purged <- err
			}()
			if db.Dialect() == database.Postgres {
				err := <-purged // it waits for nobody
				purged <- err
			}
		})
		require.NoError(t, err)
		require.False(t, replayed)
		require.NoError(t, <-purged)
		_, replayed, err = call(t.Context(), db, i, request(t, "a", "k", `{}`, later), answer)
		require.NoError(t, err)
		require.True(t, replayed, "the answer is kept")
	})
}

func TestIdempotentRefusalIsKeptAndErrorIsNot(t *testing.T) {
	t.Parallel()
	db, i := openDB(t), httpapi.NewIdempotency(0)
	req := request(t, "a", "k", ``, noon)
	_, _, err := call(t.Context(), db, i, req, func() (httpapi.Response, error) {
		return httpapi.Response{}, errors.New("the database hiccuped")
	})
	require.Error(t, err)
	_, replayed, err := call(t.Context(), db, i, req, func() (httpapi.Response, error) {
		return httpapi.Unprocessable("no such SKU").Response(), nil
	})
	require.NoError(t, err)
	require.False(t, replayed, "an error keeps nothing")
	answer, replayed, err := call(t.Context(), db, i, req, nil)
	require.NoError(t, err)
	require.True(t, replayed)
	require.Equal(t, 422, answer.Status)
	require.Contains(t, string(answer.Body), "no such SKU")
}

func TestFiftyAtOnceDoItOnce(t *testing.T) {
	t.Parallel()
	for name, oneProcess := range map[string]bool{"in one process": true, "in several processes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, shared := openDB(t), httpapi.NewIdempotency(0)
			var effects, fresh, replays, conflicts atomic.Int32
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					i := shared
					if !oneProcess {
						i = httpapi.NewIdempotency(0)
					}
					_, replayed, err := call(t.Context(), db, i, request(t, "a", "k", `{}`, noon), func() (httpapi.Response, error) {
						effects.Add(1)
						return httpapi.Response{Status: 202}, nil
					})
					switch {
					case err != nil && httpapi.ProblemOf(err).Status == 409:
						conflicts.Add(1)
					case err != nil:
						t.Error(err)
					case replayed:
						replays.Add(1)
					default:
						fresh.Add(1)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, effects.Load())
			require.EqualValues(t, 1, fresh.Load())
			require.EqualValues(t, 49, replays.Load()+conflicts.Load())
		})
	}
}

func TestInFlightIsConflict(t *testing.T) {
	t.Parallel()
	i := httpapi.NewIdempotency(0)
	req := request(t, "a", "k", ``, noon)
	release, err := i.Begin(req)
	require.NoError(t, err)
	_, err = i.Begin(req)
	require.Equal(t, 409, httpapi.ProblemOf(err).Status)
	release()
	release()
	again, err := i.Begin(req)
	require.NoError(t, err)
	again()
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		`abc`: "abc", `"abc"`: "abc", ` "a b" `: "a b", `"a\"b\\"`: `a"b\`, `8e03978e-40d5`: "8e03978e-40d5",
		``: "", ` `: "", `""`: "", `"abc`: "", `"a"b"`: "", "\"a\\\"": "", "\"a\\b\"": "", "ä": "", "a\x00": "", strings.Repeat("x", 256): "",
	} {
		req, err := httpapi.NewIdempotentRequest(t.Context(), header, "POST /", nil, noon)
		if want == "" {
			require.Error(t, err, header)
			p := httpapi.ProblemOf(err)
			require.Equal(t, 400, p.Status)
			require.Equal(t, "Idempotency-Key", p.Errors[0].Path)
			continue
		}
		require.NoError(t, err, header)
		require.Equal(t, want, req.Key)
	}
	a, err := httpapi.NewIdempotentRequest(t.Context(), "k", "POST /", []byte(`{"n":9007199254740993}`), noon)
	require.NoError(t, err)
	b, err := httpapi.NewIdempotentRequest(t.Context(), "k", "POST /", []byte(`{"n":9007199254740992}`), noon)
	require.NoError(t, err)
	require.NotEqual(t, a.Fingerprint, b.Fingerprint)
}
