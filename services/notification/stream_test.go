package notification_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
)

func TestStream(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	live := f.follow("c-1", "")
	require.Equal(t, sseEvent{id: "0-0"}, live.raw(), "the position stands even before the first notification")
	for i := 1; i <= 5; i++ {
		f.publish(created(fmt.Sprintf("o-%d", i), "c-1"), "same-key")
		f.publish(created(fmt.Sprintf("x-%d", i), "c-2"), "same-key")
	}
	for i := 1; i <= 5; i++ {
		e := live.next()
		require.Equal(t, "notification", e.name)
		require.Equal(t, strconv.Itoa(i)+"-0", e.id)
		require.Contains(t, e.data, fmt.Sprintf(`"order_id":"o-%d"`, i), "only the customer's own")
		require.Contains(t, e.data, fmt.Sprintf(`"position":"%s"`, e.id))
	}
	// Behind what a client has seen; from now on; from the beginning.
	resumed := f.follow("c-1", "3-0")
	require.Equal(t, "4-0", resumed.next().id)
	require.Equal(t, "5-0", resumed.next().id)
	now := f.follow("c-1", "")
	require.Equal(t, "5-0", now.raw().id)
	whole := f.follow("c-1", "0-0")
	for i := 1; i <= 5; i++ {
		require.Equal(t, strconv.Itoa(i)+"-0", whole.next().id)
	}
	f.publish(created("o-6", "c-1"), "same-key")
	for _, s := range []*sse{live, resumed, now, whole} {
		require.Equal(t, "6-0", s.next().id)
	}

	// A position that was never given.
	beyond := f.follow("c-1", "77-0")
	require.Equal(t, sseEvent{"0-0", "reset", `{"after":"77-0","position":"0-0","list":"/v1/customers/c-1/notifications"}`}, beyond.next())
	require.Equal(t, "1-0", beyond.next().id)

	// The end of the service ends the streams, well inside its deadline.
	f.stop()
	for range live.events {
	}
}

// The stream keeps only so many: a client that was away too long is told, and goes on from what is there.
func TestStreamIsBounded(t *testing.T) {
	t.Parallel()
	f := start(t, map[string]string{"FEED_MAX_ENTRIES": "3"})
	live := f.follow("c-1", "")
	for i := 1; i <= 8; i++ { // one by one: of a batch larger than the stream the oldest are gone at once
		f.publish(created(fmt.Sprintf("o-%d", i), "c-1"), "same-key")
		require.Equal(t, strconv.Itoa(i)+"-0", live.next().id)
	}
	// Redis may keep some more than it is told; here it must not.
	require.NoError(t, f.rdb.XTrimMaxLen(t.Context(), "notifications:c-1", 3).Err())
	late := f.follow("c-1", "2-0")
	require.Equal(t, sseEvent{"5-0", "reset", `{"after":"2-0","position":"5-0","list":"/v1/customers/c-1/notifications"}`}, late.next())
	for i := 6; i <= 8; i++ {
		require.Equal(t, strconv.Itoa(i)+"-0", late.next().id)
	}
	require.Equal(t, "6-0", f.follow("c-1", "5-0").next().id, "nothing is missing after 5")
	require.Len(t, f.list("c-1"), 8, "the list has them all")
}

// Under load, with connections that break at random, every reader sees 1..n, each once and in order.
func TestReconnectsMissAndDoubleNothing(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, testReconnects)
}

func testReconnects(t *testing.T, url string) {
	const readers, notifications = 5, 150
	f := start(t, map[string]string{"DATABASE_URL": url})
	var work sync.WaitGroup
	work.Go(func() {
		for i := range notifications {
			f.publish(created(fmt.Sprintf("o-%d", i), "c-1"), fmt.Sprintf("k-%d", i))
		}
	})
	for r := range readers {
		random := rand.New(rand.NewPCG(1, uint64(r)))
		work.Go(func() {
			last, seen := "0-0", 0
			for seen < notifications {
				s := f.follow("c-1", last)
				for range 1 + random.IntN(40) {
					e := s.next()
					seen++
					if e.name != "notification" || e.id != strconv.Itoa(seen)+"-0" {
						t.Errorf("reader %d: got %s %s, wanted notification %d-0", r, e.name, e.id, seen)
						s.close()
						return
					}
					last = e.id
					if seen == notifications {
						break
					}
				}
				s.close()
			}
		})
	}
	work.Wait()
	require.Len(t, f.list("c-1"), notifications)
}

// Whatever another hand puts under a customer's key does not stop that customer's notifications, nor anybody else's.
func TestForeignEntries(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	live, other := f.follow("c-1", ""), f.follow("c-2", "")
	live.raw()
	other.raw()
	f.publish(created("o-1", "c-1"), "o-1")
	require.Equal(t, "1-0", live.next().id)
	require.NoError(t, f.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "notifications:c-1", Values: []any{"who", "knows"}}).Err())
	f.publish(created("o-2", "c-1"), "o-2")
	require.Equal(t, "2-0", live.next().id)

	require.NoError(t, f.rdb.Set(t.Context(), "notifications:c-1", "no stream", 0).Err())
	f.publish(created("o-9", "c-2"), "o-9")
	require.Equal(t, "1-0", other.next().id)
	f.publish(created("o-3", "c-1"), "o-3")
	require.Equal(t, "3-0", live.next().id)
}

// Trace context reaches the entry in the stream.
func TestStreamEntryCarriesTrace(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	e := f.event(created("o-1", "c-1"), "o-1")
	e.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f.again("order.created", e)
	var values map[string]any
	require.Eventually(t, func() bool {
		entries := f.rdb.XRange(t.Context(), "notifications:c-1", "-", "+").Val()
		if len(entries) == 1 {
			values = entries[0].Values
		}
		return values != nil
	}, soon, tick)
	require.True(t, strings.HasPrefix(values["traceparent"].(string), "00-0af7651916cd43dd8448eb211c80319c-"))
	require.Equal(t, []notificationapi.Notification{f.list("c-1")[0]}, f.list("c-1"))
}
