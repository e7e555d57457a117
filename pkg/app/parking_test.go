package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// failing is an adder that fails at the number n of a key as long as the test wants.
type failing struct {
	adder
	fails map[string]error // by the message's key and number
}

func (f *failing) fail(key string, n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails[fmt.Sprint(key, n)] = err
}

func newFailing(options ...consumer.Option) *failing {
	f := &failing{fails: map[string]error{}}
	f.options = options
	f.handle = func(_ int, e event.Event) error { // under the adder's lock
		return f.fails[e.Key+string(e.Data[len(`{"n":`):len(e.Data)-1])]
	}
	return f
}

// totals are the sums that were announced of a key, in their order.
func totals(s *testkit.Stack, key string, n int) (all []int64) {
	for i := range n {
		_, body := testkit.Await[sumChanged](s, key, i+1)
		all = append(all, body.Total)
	}
	return all
}

func press(t *testing.T, svc *testkit.Service, id, verb string, status int) {
	t.Helper()
	resp, body := svc.Post("/admin/dead-letters/"+id+"/"+verb, map[string]string{"actor": "tester", "reason": "a test"})
	require.Equal(t, status, resp.StatusCode, body)
}

// A key that blocks waits for its dead letter, also through a restart, while the others go on. When that was redriven and
// handled, what waited is handled, in the order in which it came.
func TestBlockedKeyGoesOnWhenItsLetterIsRedriven(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		a := newFailing(consumer.Blocks)
		a.fail("k", 2, errors.New("not now"))
		s := testkit.Start(t, topics("adder"))
		settings := []string{"DATABASE_URL=" + url}
		svc := testkit.Run(s, "adder", a.run, settings...)
		for n := range int64(5) {
			s.Send("/test", "k", numberGiven{N: n + 1})
		}
		require.Equal(t, []int64{1}, totals(s, "k", 1))
		l := awaitLetters(svc, waiting)
		require.Equal(t, 2, l.Retries)
		s.Send("/test", "good", numberGiven{N: 1})
		totals(s, "good", 1)
		svc.Stop()

		svc = testkit.Run(s, "adder", a.run, settings...)
		s.Send("/test", "k", numberGiven{N: 6})
		s.Send("/test", "good", numberGiven{N: 2})
		totals(s, "good", 2)
		testkit.Until(s, "all wait", func() bool { return svc.Metric(`parked_messages{group="adder"}`) == 5 })
		require.EqualValues(t, 1, svc.Metric(`parked_blocked_keys{group="adder"}`))
		require.Len(t, s.Messages("sums", "sum.changed", "k"), 1)

		press(t, svc, l.ID, "redrive", http.StatusAccepted) // too early
		awaitLetters(svc, func(l letter) bool { return l.State == "failed_again" && l.Failures == 2 })
		require.Len(t, s.Messages("sums", "sum.changed", "k"), 1)
		a.fail("k", 2, nil)
		press(t, svc, l.ID, "redrive", http.StatusAccepted)
		require.Equal(t, []int64{1, 3, 6, 10, 15, 21}, totals(s, "k", 6))
		awaitLetters(svc, func(l letter) bool { return l.State == "redriven" })
		testkit.Until(s, "nothing is parked", func() bool { return svc.Metric(`parked_messages{group="adder"}`) == 0 })
		require.Zero(t, svc.Metric(`parked_blocked_keys{group="adder"}`))
	})
}

// Discarding the letter lets the key go on without the message. The next one that fails blocks it again.
func TestBlockedKeyGoesOnWhenItsLetterIsDiscarded(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		a := newFailing(consumer.Blocks)
		a.fail("k", 2, fault.Permanentf("never"))
		a.fail("k", 4, fault.Permanentf("never either"))
		s := testkit.Start(t, topics("adder"))
		svc := testkit.Run(s, "adder", a.run, "DATABASE_URL="+url)
		for n := range int64(5) {
			s.Send("/test", "k", numberGiven{N: n + 1})
		}
		l := awaitLetters(svc, waiting)
		press(t, svc, l.ID, "discard", http.StatusOK)
		require.Equal(t, []int64{1, 4}, totals(s, "k", 2))
		second := testkit.Eventually(svc, "/admin/dead-letters", func(l letters) bool { return len(l.Items) == 2 }).Items[0]
		require.Equal(t, "never either", second.Error)
		require.Len(t, s.Messages("sums", "sum.changed", "k"), 2)
		press(t, svc, second.ID, "discard", http.StatusOK)
		require.Equal(t, []int64{1, 4, 9}, totals(s, "k", 3))

		// All comes again, as after a crash: what was discarded keeps nobody waiting a second time.
		svc.Stop()
		admin, err := kafka.NewAdmin(kafka.Config{Brokers: s.Brokers()})
		require.NoError(t, err)
		require.NoError(t, admin.Commit(t.Context(), "adder", "numbers", map[int32]kafka.Commit{0: {}, 1: {}}))
		require.NoError(t, admin.Close())
		testkit.Run(s, "adder", a.run, "DATABASE_URL="+url)
		s.Send("/test", "k", numberGiven{N: 6})
		require.Equal(t, []int64{1, 4, 9, 15}, totals(s, "k", 4))
	})
}

// Without that option a key goes on when one of its messages is a dead letter.
func TestOpenKeyGoesOn(t *testing.T) {
	t.Parallel()
	a := newFailing()
	a.fail("k", 2, fault.Permanentf("never"))
	s, svc := start(t, &a.adder)
	for n := range int64(3) {
		s.Send("/test", "k", numberGiven{N: n + 1})
	}
	require.Equal(t, []int64{1, 4}, totals(s, "k", 2))
	awaitLetters(svc, waiting)
}

// Messages of keys that fail are tried from the table, with the attempts that they are allowed, and end as dead letters.
func TestParkedMessagesHaveTheirAttempts(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		a := newFailing()
		a.fail("k", 1, errors.New("not now"))
		s := testkit.Start(t, topics("adder"))
		svc := testkit.Run(s, "adder", a.run, "DATABASE_URL="+url, "CONSUMER_BACKOFF_INITIAL=3s", "CONSUMER_BACKOFF_MAX=3s", "CONSUMER_MAX_IN_FLIGHT=1")
		e := s.Send("/test", "k", numberGiven{N: 1})
		s.Send("/test", "k", numberGiven{N: 2})
		for i := range 20 { // on both partitions, though only one message may be in hand
			s.Send("/test", fmt.Sprint("good", i), numberGiven{N: 1})
		}
		for i := range 20 {
			totals(s, fmt.Sprint("good", i), 1)
		}
		require.Less(t, a.attemptsAt(e.ID), 3, "it waits meanwhile")
		require.Equal(t, []int64{2}, totals(s, "k", 1))
		l := awaitLetters(svc, waiting)
		require.Equal(t, 2, l.Retries)
		require.Equal(t, 3, a.attemptsAt(e.ID))
		require.Equal(t, deadletter.Transient, l.ErrorType)
	})
}
