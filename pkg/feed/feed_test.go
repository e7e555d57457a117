package feed

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type known struct {
	newest  int64
	written bool
}

func (k *known) Newest(context.Context, string) (int64, bool, error) { return k.newest, k.written, nil }

func newFeed(t *testing.T, max int64) (*Feed, *redis.Client) {
	t.Helper()
	rdb := redis.NewClient(options(t))
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	return New(rdb, Config{Prefix: "feed:", MaxEntries: max, Expiry: time.Hour}, slog.New(slog.DiscardHandler)), rdb
}

func entry(n int64) Entry {
	return Entry{Key: "c", Number: n, ID: fmt.Sprintf("n%d", n), Data: []byte("{}")}
}

func add(t *testing.T, f *Feed, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		require.Equal(t, []error{nil}, f.Append(t.Context(), []Entry{e}))
	}
}

func TestAppendAgainChangesNothing(t *testing.T) {
	t.Parallel()
	f, rdb := newFeed(t, 100)
	add(t, f, entry(1), entry(2), entry(3), entry(3), entry(2), entry(1), entry(4))
	require.Equal(t, int64(4), rdb.XLen(t.Context(), "feed:c").Val())
	first, last, err := f.bounds(t.Context(), "c")
	require.NoError(t, err)
	require.Equal(t, []int64{1, 4}, []int64{first, last})

	// The numbers of a database that begins again: another history, so the stream begins again too.
	other := entry(1)
	other.ID = "another"
	add(t, f, other)
	left := rdb.XRange(t.Context(), "feed:c", "-", "+").Val()
	require.Len(t, left, 1)
	require.Equal(t, "another", left[0].Values["id"])
}

// Many entries of a stream go in one call: those that are there already change nothing, and a stream of another history
// holds all of them afterwards.
func TestAppendMany(t *testing.T) {
	t.Parallel()
	f, rdb := newFeed(t, 1000)
	batch := func(key string, from, to int64) (entries []Entry) {
		for n := from; n <= to; n++ {
			e := entry(n)
			e.Key = key
			entries = append(entries, e)
		}
		return entries
	}
	numbers := func(key string) (got []int64) {
		all, err := f.after(t.Context(), key, 0, 10_000)
		require.NoError(t, err)
		for _, e := range all {
			require.Equal(t, entry(e.Number).ID, e.ID)
			got = append(got, e.Number)
		}
		return got
	}
	want := func(to int64) (numbers []int64) {
		for n := range to {
			numbers = append(numbers, n+1)
		}
		return numbers
	}
	for _, err := range f.Append(t.Context(), append(batch("c", 1, 300), batch("d", 1, 10)...)) {
		require.NoError(t, err)
	}
	for _, err := range f.Append(t.Context(), append(batch("d", 5, 10), batch("c", 200, 400)...)) { // some are there
		require.NoError(t, err)
	}
	require.Equal(t, [][]int64{want(400), want(10)}, [][]int64{numbers("c"), numbers("d")})
	require.Positive(t, rdb.PTTL(t.Context(), "feed:c").Val())

	// Another history, whose numbers end between those of the batch.
	for _, e := range batch("other", 1, 5) {
		e.ID = "another"
		add(t, f, e)
	}
	for _, err := range f.Append(t.Context(), batch("other", 1, 9)) {
		require.NoError(t, err)
	}
	require.Equal(t, want(9), numbers("other"))

	// Not a stream, beside one that is.
	require.NoError(t, rdb.Set(t.Context(), "feed:text", "x", 0).Err())
	for _, err := range f.Append(t.Context(), append(batch("text", 1, 3), batch("other", 10, 12)...)) {
		require.NoError(t, err)
	}
	require.Equal(t, [][]int64{want(3), want(12)}, [][]int64{numbers("text"), numbers("other")})
}

// A reader that does not read is let go, the others are not, and it can resume.
func TestSlowReaderIsLetGo(t *testing.T) {
	t.Parallel()
	f, _ := newFeed(t, 10_000)
	k := &known{written: true}
	hub := NewHub(f, k, f.logger)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()

	slow, err := hub.Follow(ctx, "c", 0)
	require.NoError(t, err)
	defer slow.Close()
	fast, err := hub.Follow(ctx, "c", 0)
	require.NoError(t, err)
	defer fast.Close()
	var seen int64
	finished := make(chan error, 1)
	go func() {
		finished <- fast.Run(ctx, func(e Entry) error {
			if e.Number != seen+1 {
				return fmt.Errorf("got %d after %d", e.Number, seen)
			}
			if seen = e.Number; seen == 2*buffered {
				return context.Canceled
			}
			return nil
		}, func(r Reset) error { return fmt.Errorf("reset %+v", r) })
	}()
	for n := range int64(2 * buffered) {
		add(t, f, entry(n+1))
	}
	require.ErrorIs(t, <-finished, context.Canceled)
	fast.Close()
	require.Eventually(t, func() bool { return hub.Readers() == 0 }, 10*time.Second, 10*time.Millisecond)

	// It gets what had been handed to it, and its end; a new one resumes where it was.
	k.newest = 2 * buffered
	var got int64
	require.NoError(t, slow.Run(ctx, func(e Entry) error { got = e.Number; return nil }, func(r Reset) error { return fmt.Errorf("%+v", r) }))
	require.Equal(t, int64(buffered), got)
	resumed, err := hub.Follow(ctx, "c", got)
	require.NoError(t, err)
	err = resumed.Run(ctx, func(e Entry) error {
		if e.Number != got+1 {
			return fmt.Errorf("got %d after %d", e.Number, got)
		}
		if got = e.Number; got == k.newest {
			return context.Canceled
		}
		return nil
	}, func(r Reset) error { return fmt.Errorf("%+v", r) })
	require.ErrorIs(t, err, context.Canceled)
	resumed.Close()
	cancel()
	require.NoError(t, <-done)
}

// An entry that comes while a reader joins, after the end of the stream was looked up and before the reader is among
// those who follow it, is in its replay.
func TestEntryThatComesWhileAReaderJoins(t *testing.T) {
	t.Parallel()
	f, _ := newFeed(t, 100)
	hub := NewHub(f, &known{written: true}, f.logger)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	first, err := hub.Follow(ctx, "c", 0)
	require.NoError(t, err)
	defer first.Close()

	joining := &Follower{hub: hub, key: "c"} // has looked the stream up: it is empty
	add(t, f, entry(1))
	require.Equal(t, int64(1), (<-first.reader.entries).Number)
	joining.join()
	defer joining.Close()
	add(t, f, entry(2))
	var got []int64
	err = joining.Run(ctx, func(e Entry) error {
		if got = append(got, e.Number); e.Number == 2 {
			return context.Canceled
		}
		return nil
	}, func(r Reset) error { return fmt.Errorf("reset %+v", r) })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []int64{1, 2}, got)
	cancel()
	require.NoError(t, <-done)
}

// onItsWay is a database that has given two numbers, whose entries were written when it says so.
type onItsWay struct{ written atomic.Bool }

func (o *onItsWay) Newest(context.Context, string) (int64, bool, error) {
	return 2, o.written.Load(), nil
}

// Redis loses an entry between its arrival and the word of it: the reader is told, without a next entry to tell by.
func TestEntriesLostOnTheirWay(t *testing.T) {
	t.Parallel()
	f, rdb := newFeed(t, 100)
	k := &onItsWay{}
	hub := NewHub(f, k, f.logger)
	add(t, f, entry(1), entry(2))
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	follower, err := hub.Follow(t.Context(), "c", 1)
	require.NoError(t, err)
	defer follower.Close()
	k.written.Store(true)
	var told Reset
	err = follower.Run(t.Context(), func(e Entry) error { return fmt.Errorf("got %d", e.Number) }, func(r Reset) error {
		told = r
		return context.Canceled
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Reset{After: 1, Position: 2}, told)
}

func TestParsePosition(t *testing.T) {
	t.Parallel()
	n, ok := ParsePosition("17-0")
	require.True(t, ok)
	require.Equal(t, int64(17), n)
	for _, bad := range []string{"", "17", "17-1", "-1-0", "+1-0", "9223372036854775808-0", "x-0", " 1-0"} {
		_, ok := ParsePosition(bad)
		require.False(t, ok, bad)
	}
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
		o.DB = int(database.Add(1)) % 8 // the other half is for package queue
	} else {
		o.Addr = miniredis.RunT(t).Addr()
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o
}
