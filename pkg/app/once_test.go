package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/service"
)

// onceTables are the effects of these tests: a row for each effect, and one that all of a batch change.
var onceTables = fstest.MapFS{"1_effects.sql": {Data: []byte("-- +goose Up\nCREATE TABLE effects (id TEXT PRIMARY KEY, n BIGINT NOT NULL);\n")}}

var effects = &database.Table[string]{
	Name:   "effects",
	Fields: []database.Field[string]{database.Text("id", func(id string) string { return id }), database.Int("n", func(string) int64 { return 1 })},
	Scan: func(row database.Scanner) (id string, err error) {
		var n int64
		return id, row.Scan(&id, &n)
	},
}

// onceApps are as many processes on one database, as far as Once goes.
func onceApps(t *testing.T, url string, n int) (*database.DB, []*App) {
	t.Helper()
	db := databasetest.Open(t, url, map[string]fs.FS{"outbox": outbox.Migrations, "httpapi": httpapi.Migrations, "service": onceTables})
	apps := make([]*App, n)
	for i := range apps {
		factory := event.NewFactory("/test")
		a := &App{
			DB: db, Events: factory, Outbox: outbox.New(db, factory, outbox.Options{}), Idempotency: httpapi.NewIdempotency(0),
			Runtime: &service.Runtime{Logger: slog.New(slog.DiscardHandler)},
		}
		a.once = coalesce.New(256, 1024, a.answerAll)
		apps[i] = a
	}
	return db, apps
}

func count(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM effects`).Scan(&n))
	return n
}

// hold makes the first request of an app stay in its transaction until released, and waits until it is there.
func hold(t *testing.T, a *App) (release func()) {
	t.Helper()
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, err := a.Once(context.WithoutCancel(t.Context()), "hold", "POST /", nil, func(context.Context, *outbox.Tx) (httpapi.Response, error) {
			close(in)
			<-out
			return httpapi.Response{Status: http.StatusAccepted}, nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-in
	return func() { close(out); <-done }
}

// Requests that share a transaction each get their own answer, whatever becomes of the others.
func TestOnceTogether(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db, apps := onceApps(t, url, 1)
		a := apps[0]
		refusal := httpapi.Unprocessable("no")
		ways := map[string]func(id string) func(ctx context.Context, tx *outbox.Tx) (httpapi.Response, error){
			"works": func(id string) func(context.Context, *outbox.Tx) (httpapi.Response, error) {
				return func(_ context.Context, tx *outbox.Tx) (httpapi.Response, error) {
					effects.Put(tx.Tx, id)
					return httpapi.Response{Status: http.StatusAccepted, Body: []byte(id)}, nil
				}
			},
			"refused": func(string) func(context.Context, *outbox.Tx) (httpapi.Response, error) {
				return func(context.Context, *outbox.Tx) (httpapi.Response, error) { return httpapi.Response{}, refusal }
			},
			"fails late": func(id string) func(context.Context, *outbox.Tx) (httpapi.Response, error) {
				return func(_ context.Context, tx *outbox.Tx) (httpapi.Response, error) {
					effects.Put(tx.Tx, id)
					return httpapi.Response{}, refusal
				}
			},
			"panics": func(string) func(context.Context, *outbox.Tx) (httpapi.Response, error) {
				return func(context.Context, *outbox.Tx) (httpapi.Response, error) { panic("oh") }
			},
			"breaks the commit": func(id string) func(context.Context, *outbox.Tx) (httpapi.Response, error) {
				return func(_ context.Context, tx *outbox.Tx) (httpapi.Response, error) {
					effects.Put(tx.Tx, "taken")
					return httpapi.Response{Status: http.StatusAccepted, Body: []byte(id)}, nil
				}
			},
		}
		require.NoError(t, db.InTx(t.Context(), func(_ context.Context, tx *database.Tx) error {
			effects.Put(tx, "taken")
			return nil
		}))
		for _, others := range [][]string{{"works"}, {"refused"}, {"fails late"}, {"panics"}, {"breaks the commit"}, {"refused", "fails late", "panics", "breaks the commit"}} {
			before := count(t, db)
			release := hold(t, a)
			var wg sync.WaitGroup
			const n = 20
			for i := range n {
				way := "works"
				if i%5 == 2 {
					way = others[i/5%len(others)]
				}
				id := fmt.Sprintf("%v-%d", others, i)
				wg.Go(func() {
					answer, err := a.Once(t.Context(), id, "POST /", nil, ways[way](id))
					if way != "works" {
						if err == nil {
							t.Errorf("%s: %s", way, answer.Body)
						}
						return
					}
					if err != nil || string(answer.Body) != id {
						t.Errorf("%s beside %v: %s %v", id, others, answer.Body, err)
					}
				})
			}
			require.Eventually(t, func() bool { return a.once.Waiting() == n }, 10*time.Second, time.Millisecond)
			release()
			wg.Wait()
			want := n
			if others[0] != "works" {
				want -= n / 5
			}
			require.Equal(t, want, count(t, db)-before, others)
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `DELETE FROM idempotency_keys WHERE request_key = 'hold'`)
				return err
			}))
		}
	})
}

// Several processes that are asked the same at once do it once and all give the one answer.
func TestOnceAcrossProcesses(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db, apps := onceApps(t, url, 3)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		const keys = 40
		var mu sync.Mutex
		answers := map[string]map[string]bool{}
		var wg sync.WaitGroup
		for _, k := range random.Perm(keys * len(apps)) {
			key, a := fmt.Sprint("k", k/len(apps)), apps[k%len(apps)]
			wg.Go(func() {
				answer, err := a.Once(t.Context(), key, "POST /", nil, func(_ context.Context, tx *outbox.Tx) (httpapi.Response, error) {
					effects.Put(tx.Tx, fmt.Sprint(key, "-", k))
					return httpapi.Response{Status: http.StatusAccepted, Body: fmt.Append(nil, key, "-", k)}, nil
				})
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if answers[key] == nil {
					answers[key] = map[string]bool{}
				}
				answers[key][string(answer.Body)] = true
			})
		}
		wg.Wait()
		require.Equal(t, keys, count(t, db), "seed %d", seed)
		for key, given := range answers {
			require.Len(t, given, 1, key)
		}
	})
}

// More requests than may wait are refused at once, and those that wait are answered.
func TestOnceIsFull(t *testing.T) {
	t.Parallel()
	_, apps := onceApps(t, "sqlite:"+t.TempDir()+"/x.db", 1)
	a := apps[0]
	a.once = coalesce.New(2, 3, a.answerAll)
	release := hold(t, a)
	works := func(context.Context, *outbox.Tx) (httpapi.Response, error) { return httpapi.Response{Status: 202}, nil }
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if _, err := a.Once(t.Context(), fmt.Sprint(i), "POST /", nil, works); err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { return a.once.Waiting() == 3 }, 10*time.Second, time.Millisecond)
	_, err := a.Once(t.Context(), "one too many", "POST /", nil, works)
	var problem *httpapi.Problem
	require.True(t, errors.As(err, &problem))
	require.Equal(t, http.StatusServiceUnavailable, problem.Status)
	release()
	wg.Wait()
	_, err = a.Once(t.Context(), "one too many", "POST /", nil, works)
	require.NoError(t, err, "it recovers at once, and the key is free")
}
