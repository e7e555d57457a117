package jsoncall_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/jsoncall"
)

const cooldown = time.Minute

// side is an other side whose breaker opens at three keys.
type side struct {
	t   *testing.T
	c   *jsoncall.Caller
	log *bytes.Buffer
	reg *prometheus.Registry
	// status is what it answers, asked how often it was.
	status, asked atomic.Int32
	now           time.Time
}

func startSide(t *testing.T) *side {
	t.Helper()
	s := &side{t: t, log: &bytes.Buffer{}, reg: prometheus.NewRegistry(), now: time.Now()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		w.WriteHeader(int(s.status.Load()))
		_, _ = w.Write([]byte(`{"code":"some"}`))
	}))
	t.Cleanup(server.Close)
	s.c = caller(t, jsoncall.Config{
		URL: server.URL, Timeout: 5 * time.Second, Attempts: 2, Backoff: time.Millisecond, BreakerFailures: 3, BreakerCooldown: cooldown,
	}, jsoncall.Deps{
		Logger: slog.New(slog.NewTextHandler(s.log, nil)), Registry: s.reg,
		Now: func() time.Time { return s.now }, Jitter: func() float64 { return 0.5 },
	})
	return s
}

// call has the side asked under key while it answers status, and returns how often it was, and the error.
func (s *side) call(status int32, key string) (asked int32, err error) {
	s.t.Helper()
	s.status.Store(status)
	before := s.asked.Load()
	_, err = s.c.Post(s.t.Context(), "/things", key, struct{}{}, &answer{})
	return s.asked.Load() - before, err
}

// fails requires that a call is made and fails with an error of a kind.
func (s *side) fails(status int32, key string, kind fault.Kind) {
	s.t.Helper()
	asked, err := s.call(status, key)
	require.Error(s.t, err)
	require.Equal(s.t, kind, fault.KindOf(err), "%v", err)
	require.NotZero(s.t, asked, "%v", err)
}

// refuses requires that a call is refused.
func (s *side) refuses(key string) {
	s.t.Helper()
	asked, err := s.call(200, key)
	require.Equal(s.t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(s.t, err, "circuit breaker is open")
	require.Zero(s.t, asked)
}

// is requires what the metric says, and how often the log told of opening and closing.
func (s *side) is(open float64, opened, closed int) {
	s.t.Helper()
	families, err := s.reg.Gather()
	require.NoError(s.t, err)
	require.Len(s.t, families, 1)
	require.Equal(s.t, "jsoncall_breaker_open", families[0].GetName())
	require.Equal(s.t, open, families[0].GetMetric()[0].GetGauge().GetValue())
	require.Equal(s.t, []int{opened, closed}, []int{
		strings.Count(s.log.String(), "circuit breaker opens"), strings.Count(s.log.String(), "circuit breaker closes"),
	}, s.log)
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	s := startSide(t)
	s.fails(503, "a", fault.Transient)
	s.fails(500, "b", fault.Transient)
	s.is(0, 0, 0)
	s.fails(429, "c", fault.Unavailable) // what opens it is not to blame either
	s.is(1, 1, 0)
	s.refuses("a")
	s.now = s.now.Add(cooldown - 1)
	s.refuses("d")

	// One call goes through in each cool-down, and its failure uses up nobody's attempts.
	for range 3 {
		s.now = s.now.Add(cooldown)
		s.fails(503, "a", fault.Unavailable)
		s.refuses("a")
	}
	s.is(1, 1, 0)

	s.now = s.now.Add(cooldown)
	asked, err := s.call(200, "b")
	require.NoError(t, err)
	require.Equal(t, int32(1), asked)
	s.is(0, 1, 1)
	// It begins anew: what failed before is forgotten.
	s.fails(503, "a", fault.Transient)
	s.fails(503, "b", fault.Transient)
	s.fails(503, "c", fault.Unavailable)
	s.is(1, 2, 1)
}

// A request that the other side cannot digest is one, however often it is asked: it is given up, and the others go on.
func TestOneKeyOpensNoBreaker(t *testing.T) {
	t.Parallel()
	s := startSide(t)
	for range 10 {
		s.fails(500, "poison", fault.Transient)
	}
	s.fails(500, "other", fault.Transient)
	s.is(0, 0, 0)
}

// Whatever shows that the other side is there ends a row, and closes the breaker, also when it is a no.
func TestAnswersEndTheRow(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int32{"yes": 200, "nothing": 204, "permanent": 400, "wrong token": 401, "busy key": 409} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSide(t)
			for range 3 {
				s.fails(503, "a", fault.Transient)
				s.fails(503, "b", fault.Transient)
				_, err := s.call(status, "c")
				require.NotEqual(t, fault.Unavailable, fault.KindOf(err), "%v", err)
			}
			s.is(0, 0, 0)
			for _, key := range []string{"a", "b", "c"} {
				_, _ = s.call(503, key)
			}
			s.is(1, 1, 0)
			s.now = s.now.Add(cooldown)
			_, err := s.call(status, "d")
			require.NotEqual(t, fault.Unavailable, fault.KindOf(err), "%v", err)
			s.is(0, 1, 1)
		})
	}
}

// A call of our own that is cut off says nothing of the other side, and as a probe keeps nobody from being the next.
func TestOurOwnStopIsNoFailure(t *testing.T) {
	t.Parallel()
	s := startSide(t)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, key := range []string{"a", "b", "c", "d"} {
		_, err := s.c.Post(stopped, "/things", key, struct{}{}, &answer{})
		require.ErrorIs(t, err, context.Canceled)
	}
	s.is(0, 0, 0)
	for _, key := range []string{"a", "b", "c"} {
		_, _ = s.call(503, key)
	}
	s.now = s.now.Add(cooldown)
	_, err := s.c.Post(stopped, "/things", "a", struct{}{}, &answer{})
	require.ErrorIs(t, err, context.Canceled)
	s.is(1, 1, 0)
	s.now = s.now.Add(cooldown)
	_, err = s.call(200, "a")
	require.NoError(t, err)
	s.is(0, 1, 1)
}

// Calls that were under way when the breaker opened fail because of what opened it.
func TestCallsUnderWayWhenItOpens(t *testing.T) {
	t.Parallel()
	const n = 10
	asked, leave := make(chan struct{}, n), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-leave
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(server.Close)
	c := caller(t, jsoncall.Config{URL: server.URL, Timeout: time.Minute, Attempts: 1, BreakerFailures: 4, BreakerCooldown: cooldown}, deps())
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := c.Post(t.Context(), "/things", string(rune('a'+i)), struct{}{}, &answer{})
			errs <- err
		}()
	}
	for range n {
		<-asked
	}
	close(leave)
	kinds := map[fault.Kind]int{}
	for range n {
		kinds[fault.KindOf(<-errs)]++
	}
	require.Equal(t, map[fault.Kind]int{fault.Transient: 3, fault.Unavailable: n - 3}, kinds)
}

func TestTwoCallersOfOneName(t *testing.T) {
	t.Parallel()
	shared := deps()
	caller(t, jsoncall.Config{}, shared)
	_, err := jsoncall.New("shop", jsoncall.Config{}, shared, sold)
	require.ErrorContains(t, err, "shop: metrics")
}
