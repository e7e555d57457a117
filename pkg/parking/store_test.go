package parking_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/parking"
)

func TestMain(m *testing.M) {
	// go-metrics, which sarama counts with, starts one ticker a process and never stops it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, url string) { fn(t, open(t, url)) })
}

func open(t testing.TB, url string) *database.DB {
	t.Helper()
	return databasetest.Open(t, url, map[string]fs.FS{"parked": parking.Migrations})
}

func newStore(db *database.DB) *parking.Store {
	return parking.New(db, "g", func() time.Time { return noon }, "g.redrive")
}

func parked(partition int32, offset int64, key, value string) kafka.Parked {
	return kafka.Parked{Due: noon, Record: kafka.Record{
		Topic: "t", Partition: partition, Offset: offset, Timestamp: noon.Add(-time.Hour), Key: []byte(key), Value: []byte(value),
		Headers: map[string]string{"ce_id": fmt.Sprint(offset)},
	}}
}

func offsets(all []kafka.Parked) (offsets []int64) {
	for _, m := range all {
		offsets = append(offsets, m.Offset)
	}
	return offsets
}

func first(t *testing.T, s *parking.Store, partition int32, key string) []kafka.Parked {
	t.Helper()
	all, err := s.First(t.Context(), "t", partition, key)
	require.NoError(t, err)
	return all
}

// Whatever bytes a record has, they come back; so does the difference of null and empty.
func TestRecordsComeBackAsTheyAre(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newStore(db)
		odd := parked(1, 7, "k\x00\xff", "\x00\xfe")
		odd.Headers = map[string]string{"": "", "a\x00": "\xff", "plain": "text", "quoted": `"{}"`}
		odd.Attempts, odd.Due = 2, noon.Add(time.Minute)
		null, empty := parked(1, 8, "k\x00\xff", ""), parked(1, 9, "k\x00\xff", "")
		null.Value, null.Headers = nil, map[string]string{}
		require.NoError(t, s.Park(t.Context(), odd, null, empty))
		all := first(t, s, 1, "k\x00\xff")
		for i := range all {
			all[i].Due = all[i].Due.UTC()
		}
		require.Equal(t, []kafka.Parked{odd, null, empty}, all)
		require.Empty(t, first(t, s, 0, "k\x00\xff"))
	})
}

// A message that is parked again, by whoever had the partition before or because it was tried, is there once, and the
// attempts are not forgotten.
func TestParkedTwiceIsThereOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newStore(db)
		tried := parked(0, 5, "k", "x")
		tried.Attempts, tried.Due = 2, noon.Add(time.Minute)
		require.NoError(t, s.Park(t.Context(), parked(0, 5, "k", "x"), parked(0, 6, "k", "y"), tried))
		require.NoError(t, s.Park(t.Context(), parked(0, 5, "k", "x")))
		all := first(t, s, 0, "k")
		require.Equal(t, []int64{5, 6}, offsets(all))
		require.Equal(t, 2, all[0].Attempts)
		require.WithinDuration(t, tried.Due, all[0].Due, 0)
		tried.Attempts, tried.Due = 3, noon.Add(time.Hour)
		require.NoError(t, s.Park(t.Context(), tried))
		all = first(t, s, 0, "k")
		require.Equal(t, 3, all[0].Attempts)
		require.WithinDuration(t, tried.Due, all[0].Due, 0)
	})
}

// What is read at once is bounded, by number and by bytes; a large message comes alone.
func TestFirstIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newStore(db)
		var all []kafka.Parked
		for n := range 600 { // more than one statement takes
			all = append(all, parked(0, int64(599-n), "small", "x"))
		}
		large := string(make([]byte, 1<<20))
		all = append(all, parked(0, 600, "large", large), parked(0, 601, "large", large), parked(0, 602, "mixed", "x"), parked(0, 603, "mixed", large), parked(0, 604, "mixed", "x"))
		require.NoError(t, s.Park(t.Context(), all...))
		require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, offsets(first(t, s, 0, "small")))
		require.Equal(t, []int64{600}, offsets(first(t, s, 0, "large")))
		require.Equal(t, []int64{602, 603}, offsets(first(t, s, 0, "mixed")))

		require.NoError(t, s.Remove(t.Context(), "t", 0, 600, 602, 0, 999))
		require.NoError(t, s.Remove(t.Context(), "t", 0))
		require.Equal(t, []int64{601}, offsets(first(t, s, 0, "large")))
		keys, err := s.Load(t.Context(), "t", 0)
		require.NoError(t, err)
		require.ElementsMatch(t, []kafka.ParkedKey{
			{Key: "small", Messages: 599, Last: 599}, {Key: "large", Messages: 1, Last: 601}, {Key: "mixed", Messages: 2, Last: 604},
		}, keys)
		keys, err = s.Load(t.Context(), "t", 1)
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}

// A blocked key is held wherever its messages come from, but where they come to end it; until all that block it are let go.
func TestBlockedUntilLetGo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s, other, foreign := newStore(db), newStore(db), parking.New(db, "h", time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			other.Run(ctx, quiet)
		}()
		held := func(is bool) {
			require.Eventually(t, func() bool { return other.Held("t", "k") == is }, patience, tick)
		}
		held(false)
		one, two := parked(0, 5, "k", "x"), parked(1, 6, "k", "x")
		one.Topic = "a-b" // as letters' ids have it
		require.NoError(t, s.Park(t.Context(), one, two))
		for _, m := range []kafka.Parked{one, two} {
			require.NoError(t, s.Block(t.Context(), m.Record))
		}
		require.True(t, s.Held("t", "k"), "who blocks knows at once")
		require.True(t, s.Held("other", "k"))
		require.False(t, s.Held("t", "l"))
		require.False(t, s.Held("g.redrive", "k"))
		require.True(t, first(t, s, 1, "k")[0].Blocked)
		held(true)
		_, err := foreign.Load(t.Context(), "t", 0)
		require.NoError(t, err)
		require.False(t, foreign.Held("t", "k"))

		release := func(fail error, messages ...kafka.Parked) {
			t.Helper()
			err := db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
				var ids []string
				for _, m := range messages {
					ids = append(ids, deadletter.ID(deadletter.New(m.Record, deadletter.Failure{Err: context.Canceled}).Headers))
				}
				require.NoError(t, other.Release(ctx, tx, ids...))
				return fail
			})
			require.ErrorIs(t, err, fail)
		}
		release(context.Canceled, one, two) // undone
		release(nil, one)
		_, err = other.Load(t.Context(), "t", 0)
		require.NoError(t, err)
		held(true)
		release(nil, two, parked(3, 3, "none", ""))
		held(false)
		require.Empty(t, first(t, s, 1, "k"))

		require.NoError(t, s.Block(t.Context(), two.Record), "it was let go before")
		_, err = s.Load(t.Context(), "t", 1)
		require.NoError(t, err)
		require.False(t, s.Held("t", "k"))
		cancel()
		<-ran
	})
}
