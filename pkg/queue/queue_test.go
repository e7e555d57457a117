package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon, tick = 15 * time.Second, 10 * time.Millisecond

func client(t *testing.T) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(options(t))
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	return rdb
}

func run(t *testing.T, rdb *redis.Client, instance string, workers int, handle message.NoPublishHandlerFunc) (q *queue.Queue, stop func()) {
	t.Helper()
	q = queue.New(rdb, queue.Config{
		Stream: "work", Group: "group", Instance: instance, Workers: workers, Takeover: 500 * time.Millisecond,
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, handle) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool { return q.Ready() == nil }, soon, tick)
	return q, stop
}

func put(t *testing.T, q *queue.Queue, id string) {
	t.Helper()
	require.NoError(t, q.Put(t.Context(), event.Event{
		ID: id, Type: "t", Source: "/t", Key: "k", Time: time.Now(), Traceparent: "tp", Data: []byte(`{"n":1}`),
	}))
}

// An entry that takes longer than the takeover is not worked a second time while its worker lives, and is taken over
// once that is gone.
func TestEntriesInHandAreKept(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	var calls, second atomic.Int64
	release := make(chan struct{})
	q, stop := run(t, rdb, "first", 1, func(msg *message.Message) error {
		calls.Add(1)
		select {
		case <-release:
			return nil
		case <-msg.Context().Done():
			return msg.Context().Err()
		}
	})
	put(t, q, "slow")
	require.Eventually(t, func() bool { return calls.Load() == 1 }, soon, tick)
	run(t, rdb, "second", 2, func(msg *message.Message) error {
		second.Add(1)
		return nil
	})
	require.Never(t, func() bool { return second.Load() > 0 || calls.Load() > 1 }, 2500*time.Millisecond, tick)
	stop()
	require.Eventually(t, func() bool { return second.Load() == 1 }, soon, tick)
	require.Eventually(t, func() bool { return rdb.XPending(t.Context(), "work", "group").Val().Count == 0 }, soon, tick)
}

// Trim removes what was acknowledged: neither what is unread, nor what is in hand, nor what another group has not done.
func TestTrimKeepsWhatIsNotDone(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	hold := make(chan struct{})
	var done atomic.Int64
	q, stop := run(t, rdb, "first", 1, func(msg *message.Message) error {
		if msg.UUID == "5" {
			select {
			case <-hold:
			case <-msg.Context().Done():
				return msg.Context().Err()
			}
		}
		done.Add(1)
		return nil
	})
	for i := range 10 {
		put(t, q, fmt.Sprint(i))
	}
	require.Eventually(t, func() bool {
		return done.Load() == 5 && rdb.XPending(t.Context(), "work", "group").Val().Count > 0
	}, soon, tick)
	idle, err := q.Idle(t.Context())
	require.NoError(t, err)
	require.False(t, idle)
	require.Eventually(t, func() bool {
		_, err := q.Trim(t.Context())
		require.NoError(t, err)
		return rdb.XLen(t.Context(), "work").Val() == 5
	}, soon, tick)
	left := rdb.XRange(t.Context(), "work", "-", "+").Val()
	require.Equal(t, "5", left[0].Values["id"])

	require.NoError(t, rdb.XGroupCreate(t.Context(), "work", "other", "0").Err())
	close(hold)
	require.Eventually(t, func() bool { idle, err := q.Idle(t.Context()); return err == nil && idle && done.Load() == 10 }, soon, tick)
	_, err = q.Trim(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(5), rdb.XLen(t.Context(), "work").Val(), "the other group has read nothing")
	require.NoError(t, rdb.XGroupDestroy(t.Context(), "work", "other").Err())
	_, err = q.Trim(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), rdb.XLen(t.Context(), "work").Val(), "the last delivered stays")
	stop()
}

// What a handler refuses comes again; what it gets is what was put.
func TestRefusedEntriesComeAgain(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	got := make(chan *message.Message, 10)
	var calls atomic.Int64
	q, _ := run(t, rdb, "first", 1, func(msg *message.Message) error {
		if calls.Add(1) == 1 {
			return fmt.Errorf("not yet")
		}
		got <- msg
		return nil
	})
	put(t, q, "one")
	msg := <-got
	require.Equal(t, "one", msg.UUID)
	require.JSONEq(t, `{"n":1}`, string(msg.Payload))
	e, err := event.FromMessage(msg)
	require.NoError(t, err)
	require.Equal(t, "tp", e.Traceparent)
}

// An entry by another hand is handed out with what is wrong with it, and what follows is worked.
func TestForeignEntriesStopNothing(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	got := make(chan *message.Message, 10)
	q, _ := run(t, rdb, "first", 1, func(msg *message.Message) error { got <- msg; return nil })
	id, err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: "work", Values: []any{"who", "knows"}}).Result()
	require.NoError(t, err)
	put(t, q, "one")
	foreign := <-got
	require.NotEmpty(t, foreign.Metadata[queue.HeaderForeign])
	require.Equal(t, id, foreign.Metadata[queue.HeaderEntry])
	require.JSONEq(t, `{"who":"knows"}`, string(foreign.Payload))
	require.Equal(t, "one", (<-got).UUID)
}

// Redis comes back empty, without the consumer group: the queue is subscribed again, to what is put from then on.
func TestALostGroupIsMadeAgain(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	got := make(chan *message.Message, 10)
	q, _ := run(t, rdb, "first", 2, func(msg *message.Message) error { got <- msg; return nil })
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	put(t, q, "one")
	require.Equal(t, "one", (<-got).UUID)
	require.Eventually(t, func() bool { return q.Ready() == nil }, soon, tick)
}

// Many are put in one round trip, in their order, or none is.
func TestPutAll(t *testing.T) {
	t.Parallel()
	rdb := client(t)
	q := queue.New(rdb, queue.Config{Stream: "work"}, slog.New(slog.DiscardHandler))
	events := make([]event.Event, 500)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprint(i), Type: "t", Source: "/t", Key: "k", Time: time.Now(), Data: []byte(`{}`)}
	}
	require.NoError(t, q.PutAll(t.Context(), events))
	for i, m := range rdb.XRange(t.Context(), "work", "-", "+").Val() {
		require.Equal(t, events[i].ID, m.Values["id"])
	}
	require.Equal(t, int64(len(events)), rdb.XLen(t.Context(), "work").Val())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, q.PutAll(ctx, events))
	require.NoError(t, rdb.Set(t.Context(), "taken", "no stream", 0).Err())
	err := queue.New(rdb, queue.Config{Stream: "taken"}, slog.New(slog.DiscardHandler)).PutAll(t.Context(), events)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), err)
}

func FuzzCodec(f *testing.F) {
	f.Add("id", `{"a":"b"}`, "payload")
	f.Add("", "null", "\xff")
	f.Fuzz(func(t *testing.T, id, headers, payload string) {
		msg, err := queue.Codec{}.Unmarshal(map[string]any{"id": id, "headers": headers, "payload": payload, "entry": "1-0"})
		require.NoError(t, err)
		require.Equal(t, "1-0", msg.Metadata[queue.HeaderEntry])
		if msg.Metadata[queue.HeaderForeign] == "" {
			require.Equal(t, payload, string(msg.Payload))
		}
	})
}

var database atomic.Int64

// options are those of the embedded Redis, or of the server that TEST_REDIS_URL names, a database a test.
func options(t *testing.T) *redis.Options {
	t.Helper()
	o := &redis.Options{}
	if server := os.Getenv("TEST_REDIS_URL"); server != "" {
		var err error
		o, err = redis.ParseURL(server)
		require.NoError(t, err)
		o.DB = 8 + int(database.Add(1))%8 // the other half is for package feed
	} else {
		o.Addr = miniredis.RunT(t).Addr()
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o
}
