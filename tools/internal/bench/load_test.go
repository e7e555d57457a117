package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
)

// doer answers requests without a network, so that the clock may be synctest's.
type doer func(r *http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func answer(status int, header http.Header, body string) *http.Response {
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/json")
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func shopAt(t *testing.T, d doer) *shop {
	t.Helper()
	s := &shop{ends: newTracker(), seed: 1, skus: []string{"A"}}
	var err error
	s.orders, err = orderapi.NewClientWithResponses("http://shop", orderapi.WithHTTPClient(d))
	require.NoError(t, err)
	return s
}

// taken is the answer to an accepted order, which ends as it should after a while.
func (s *shop) taken(n uint64, after time.Duration) *http.Response {
	id := fmt.Sprintf("o-%d", n)
	_, pays := s.request(n)
	time.AfterFunc(after, func() { s.ends.ended(id, end{at: time.Now(), confirmed: pays}) })
	return answer(http.StatusAccepted, nil, fmt.Sprintf(`{"order_id":%q}`, id))
}

func number(r *http.Request) (n uint64) {
	key := r.Header.Get("Idempotency-Key")
	_, _ = fmt.Sscan(key[strings.LastIndexByte(key, '-')+1:], &n)
	return n
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	start := time.Unix(100, 0)
	require.Equal(t, start, dueAt(start, 3, 0))
	require.Equal(t, start.Add(time.Second), dueAt(start, 3, 3))
	require.Equal(t, start.Add(100*time.Second), dueAt(start, 0.01, 1))
	require.Equal(t, start.Add(1000*time.Second), dueAt(start, 300, 300_000), "no drift")
}

// TestOpenLoopCountsFromTheInstantThatWasDue: a shop that takes one order in 200 ms gets one every 100 ms. The n-th waits
// 100 ms longer than the one before it, and says so.
func TestOpenLoopCountsFromTheInstantThatWasDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		turn := make(chan struct{}, 1)
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			wait(r.Context(), 200*time.Millisecond)
			return s.taken(number(r), 50*time.Millisecond), nil
		})
		start := time.Now()
		run := &tally{from: start.Add(time.Second), to: start.Add(2 * time.Second)}
		s.open(t.Context(), run, start, 10)
		require.Empty(t, run.wrong())
		require.Equal(t, 20, run.confirmed+run.cancelled, "all that were due, not half of them")
		accept, ends := latencyOf(run.accept), latencyOf(run.endToEnd)
		// Numbers 10 to 19: accepted 200 ms after each other from 2200 ms on, due from 1000 ms on.
		require.Equal(t, 10, accept.Count)
		require.InDelta(t, 1600, accept.P50, 1e-6)
		require.InDelta(t, 2100, accept.Max, 1e-6)
		require.InDelta(t, 2150, ends.Max, 1e-6)
		require.InDelta(t, 5, run.ended, 1, "one in 200 ms")
	})
}

// TestClosedLoopKeepsItsNumberInFlight: 4 at once, each over after 100 ms, are 40 a second.
func TestClosedLoopKeepsItsNumberInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		var mu sync.Mutex
		most, now := 0, 0
		add := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			now += n
			most = max(most, now)
		}
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			add(1)
			time.AfterFunc(99*time.Millisecond, func() { add(-1) })
			return s.taken(number(r), 100*time.Millisecond), nil
		})
		start := time.Now().Add(-time.Millisecond) // so that no end falls on the window's edge
		run := &tally{from: start.Add(time.Second), to: start.Add(3 * time.Second)}
		s.closed(t.Context(), run, 4)
		require.Empty(t, run.wrong())
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 4, most)
		require.Equal(t, 80, run.ended)
		require.InDelta(t, 100, latencyOf(run.endToEnd).P50, 1e-6)
		require.Zero(t, latencyOf(run.accept).P50)
	})
}

func TestRefusalsAreCountedAndWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := map[string]int{}
		s := shopAt(t, func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			switch asked["all"]++; asked["all"] % 3 {
			case 0:
				return answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}, "{}"), nil
			case 1:
				return answer(http.StatusServiceUnavailable, nil, "{}"), nil
			default:
				return answer(http.StatusInternalServerError, nil, `{"title":"broken"}`), nil
			}
		})
		start := time.Now()
		run := &tally{from: start, to: start.Add(11 * time.Second)}
		s.closed(t.Context(), run, 1)
		// 50 ms, 50 ms and 1 s, ten times over.
		require.Equal(t, 20, run.refused)
		require.Equal(t, 10, run.errors)
		require.ErrorContains(t, run.firstError, "broken")
		require.Contains(t, run.wrong()[0], "no order ended in the window")
		require.Empty(t, run.accept)
	})
}

func TestOrdersThatGoAstrayAreNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			n := number(r)
			id := fmt.Sprintf("o-%d", n)
			if n == 1 { // never ends
				return answer(http.StatusAccepted, nil, `{"order_id":"o-1"}`), nil
			}
			_, pays := s.request(n)
			s.ends.ended(id, end{at: time.Now(), confirmed: !pays})
			return answer(http.StatusAccepted, nil, fmt.Sprintf(`{"order_id":%q}`, id)), nil
		})
		start := time.Now()
		run := &tally{from: start, to: start.Add(2 * time.Second)}
		s.open(t.Context(), run, start, 1)
		require.Len(t, run.wrong(), 2)
		require.Contains(t, strings.Join(run.wrong(), "\n"), "order o-1 had not ended after 1m0s")
		require.Contains(t, strings.Join(run.wrong(), "\n"), "order o-2 was cancelled although its payment goes through")
	})
}

// TestAcceptingDoesNotWaitForEnds: 4 connections, each answered after 99 ms, are 40 a second, although an order ends after
// 10 s; and every end is waited for afterwards.
func TestAcceptingDoesNotWaitForEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		var still atomic.Bool
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			assert.True(t, still.Load(), "nothing else is done meanwhile")
			wait(r.Context(), 100*time.Millisecond)
			return s.taken(number(r), 10*time.Second), nil
		})
		start := time.Now().Add(-time.Millisecond) // so that no answer falls on the window's edge
		run := &tally{from: start.Add(time.Second), to: start.Add(3 * time.Second)}
		s.still = func(services []string, during func() error) error {
			assert.Equal(t, []string{"inventory", "payment", "shipping", "notification", "analytics"}, services)
			still.Store(true)
			defer still.Store(false)
			return during()
		}
		require.NoError(t, s.accept(t.Context(), run, 4))
		require.False(t, still.Load(), "what stood still goes on")
		require.Empty(t, run.wrong())
		require.Equal(t, 80, run.ended, "answers")
		require.Equal(t, 120, run.confirmed+run.cancelled, "with those of the warm-up")
		require.Len(t, run.accept, 80)
		require.InDelta(t, 100, latencyOf(run.accept).P50, 1e-6)
		require.InDelta(t, 10_100, latencyOf(run.endToEnd).P50, 1e-6)
		require.Equal(t, 3*time.Second, run.to.Sub(start), "not cut short")
	})
}

func TestAcceptingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			wait(r.Context(), time.Millisecond)
			return s.taken(number(r), time.Second), nil
		})
		start := time.Now().Add(-time.Microsecond)
		s.still = func(_ []string, during func() error) error { return during() }
		run := &tally{from: start.Add(time.Second), to: start.Add(time.Hour)}
		require.NoError(t, s.accept(t.Context(), run, 10))
		require.Empty(t, run.wrong())
		require.Equal(t, maxAccepted+9, len(run.accepted), "the last one, and the others that were under way")
		require.Equal(t, 2*time.Second, run.to.Sub(start).Round(time.Millisecond), "10,000 a second")
		require.Equal(t, maxAccepted, run.confirmed+run.cancelled-9)
	})
}

// TestAnAnswerMayBeTheEnd: so it is with the orchestrator.
func TestAnAnswerMayBeTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			wait(r.Context(), 99*time.Millisecond)
			n := number(r)
			state := "cancelled"
			if _, pays := s.request(n); pays {
				state = "confirmed"
			}
			switch n {
			case 1:
				return answer(http.StatusOK, nil, `{"order_id":"o","state":"pending"}`), nil
			case 2:
				return answer(http.StatusInternalServerError, nil, "no"), nil
			case 3:
				return answer(http.StatusAccepted, nil, `{"order_id":"o"}`), nil
			}
			return answer(http.StatusOK, nil, fmt.Sprintf(`{"order_id":"o-%d","state":%q}`, n, state)), nil
		})
		s.ends = nil
		start := time.Now()
		run := &tally{from: start, to: start.Add(time.Second)}
		s.closed(t.Context(), run, 1)
		require.Equal(t, []string{`an answer is not an order that has ended: the state is "pending"`}, run.wrong())
		require.Equal(t, 2, run.errors)
		require.Len(t, run.endToEnd, run.confirmed+run.cancelled)
		require.Positive(t, run.confirmed)
		require.InDelta(t, 99, latencyOf(run.endToEnd).P50, 1e-6)
	})
}

func TestAnEndedContextEndsALoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *shop
		s = shopAt(t, func(r *http.Request) (*http.Response, error) {
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return s.taken(number(r), time.Hour), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		s.closed(ctx, &tally{from: start, to: start.Add(time.Minute)}, 3)
		s.open(ctx, &tally{from: start, to: start.Add(time.Minute)}, start, 5)
		require.Equal(t, time.Second, time.Since(start))
	})
}
