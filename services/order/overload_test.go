package order_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// More requests at once than may wait: each is answered, those that are refused left nothing, and what is sent again is
// taken. The database is held until the first refusal, so that there is one.
func TestOverload(t *testing.T) {
	t.Parallel()
	const requests, waiting = 200, 16
	s, svc := start(t, fmt.Sprint("REQUEST_WAITING_MAX=", waiting))
	db, err := database.Open(t.Context(), "sqlite:"+s.Database("order"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	var all sync.WaitGroup
	held, refusal := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		err := db.InTx(t.Context(), func(ctx context.Context, _ *database.Tx) error {
			close(held)
			select {
			case <-refusal:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held

	var mu sync.Mutex
	var refused []string
	var once sync.Once
	placed := map[string]bool{}
	post := func(key string) {
		resp, body := svc.Post("/v1/orders", request("c-1"), "Idempotency-Key: "+key)
		mu.Lock()
		defer mu.Unlock()
		switch resp.StatusCode {
		case http.StatusAccepted:
			placed[strings.TrimPrefix(resp.Header.Get("Location"), "/v1/orders/")] = true
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			if resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: a refusal without Retry-After: %s", key, body)
			}
			refused = append(refused, key)
			once.Do(func() { close(refusal) })
		default:
			t.Errorf("%s: %s: %s", key, resp.Status, body)
		}
	}
	for n := range requests {
		all.Go(func() { post(fmt.Sprint("key-", n)) })
	}
	all.Wait()
	require.NotEmpty(t, refused)
	require.Len(t, placed, requests-len(refused), "each 202 is an order of its own")
	require.Equal(t, placed, stored(t, db), "and of what was refused there is nothing")

	// As many at once as may wait: none is refused now.
	again := make(chan string, len(refused))
	for _, key := range refused {
		again <- key
	}
	close(again)
	refused = nil
	for range waiting {
		all.Go(func() {
			for key := range again {
				post(key)
			}
		})
	}
	all.Wait()
	require.Empty(t, refused)
	require.Len(t, placed, requests)
	id := place(t, svc, "the next")
	placed[id] = true
	require.Equal(t, placed, stored(t, db))
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
}

// stored are the ids of all orders.
func stored(t *testing.T, db *database.DB) map[string]bool {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT id FROM orders`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	ids := map[string]bool{}
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		ids[id] = true
	}
	require.NoError(t, rows.Err())
	return ids
}
