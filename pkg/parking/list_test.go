package parking_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/parking"
)

// clock is what a store thinks the time is.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// in is a message of another topic.
func in(topic string, m kafka.Parked) kafka.Parked {
	m.Topic = topic
	return m
}

func tried(m kafka.Parked, attempts int, due time.Time) kafka.Parked {
	m.Attempts, m.Due = attempts, due
	return m
}

func keysOf(t *testing.T, s *parking.Store, f parking.Filter) (told []string) {
	t.Helper()
	all, err := s.Keys(t.Context(), f, parking.Position{}, 100)
	require.NoError(t, err)
	for _, k := range all {
		told = append(told, fmt.Sprintf("%s-%d %q %s", k.Topic, k.Partition, k.Key, k.State()))
	}
	return told
}

// TestKeysSayWhatTheyWaitFor: each key of each partition is listed once with what waits, since when and for what; one that
// a dead letter blocks is so in all topics of its group but those where letters come back.
func TestKeysSayWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		c := &clock{noon}
		s := parking.New(db, "g", c.now, "g.redrive")
		put := func(all ...kafka.Parked) {
			t.Helper()
			require.NoError(t, s.Park(t.Context(), all...))
			c.at = c.at.Add(time.Minute)
		}
		null := parked(0, 3, "a", "")
		null.Value = nil
		put(tried(parked(0, 1, "a", "four"), 2, noon.Add(time.Hour)), parked(0, 2, "a", "sixsix"))
		put(null)
		put(tried(parked(1, 9, "b", "x"), 3, noon), parked(1, 10, "b", "y"))
		require.NoError(t, s.Block(t.Context(), parked(1, 9, "b", "x").Record))
		put(in("u", parked(0, 5, "b", "z")), in("g.redrive", tried(parked(0, 6, "b", "z"), 1, noon.Add(time.Hour))))
		put(parked(0, 7, "k\x00\xff", "q"), parked(0, 8, "", "qq"))
		require.NoError(t, parking.New(db, "other", c.now).Park(t.Context(), parked(0, 1, "a", "four")))

		all, err := s.Keys(t.Context(), parking.Filter{}, parking.Position{}, 2)
		require.NoError(t, err)
		require.Equal(t, []parking.Key{
			{Group: "g", Topic: "t", Key: []byte("a"), Messages: 3, Bytes: 10, First: "t-0-1", Since: noon, Attempts: 2, Due: noon.Add(time.Hour)},
			{Group: "g", Topic: "t", Partition: 1, Key: []byte("b"), Messages: 2, Bytes: 2, First: "t-1-9", Since: noon.Add(2 * time.Minute), Attempts: 3, Due: noon, Letter: "t-1-9"},
		}, all)
		everything := []string{`t-0 "a" retrying`, `t-1 "b" blocked`, `g.redrive-0 "b" retrying`, `u-0 "b" blocked`, `t-0 "k\x00\xff" queued`, `t-0 "" queued`}
		require.Equal(t, everything, keysOf(t, s, parking.Filter{}))
		require.Equal(t, []string{`t-1 "b" blocked`, `u-0 "b" blocked`}, keysOf(t, s, parking.Filter{State: parking.Blocked}))
		require.Equal(t, []string{`t-0 "a" retrying`, `g.redrive-0 "b" retrying`}, keysOf(t, s, parking.Filter{State: parking.Retrying}))
		require.Equal(t, []string{`t-0 "k\x00\xff" queued`}, keysOf(t, s, parking.Filter{State: parking.Queued, Key: "k\x00\xff", Topic: "t", Group: "g"}))
		require.Equal(t, []string{`u-0 "b" blocked`}, keysOf(t, s, parking.Filter{Topic: "u"}))
		require.Empty(t, keysOf(t, s, parking.Filter{Group: "other"}), "that is for the other to tell")

		// One a page, each is there once.
		var told []string
		for at := (parking.Position{}); ; {
			page, err := s.Keys(t.Context(), parking.Filter{}, at, 1)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			k := page[0]
			told = append(told, fmt.Sprintf("%s-%d %q %s", k.Topic, k.Partition, k.Key, k.State()))
			at = parking.Position{Since: k.Since, First: k.First}
		}
		require.Equal(t, everything, told)

		asked := []string{"a", "b", "c", ""}
		for n := range 600 { // more than one statement takes
			asked = append(asked, fmt.Sprint(n))
		}
		waiting, err := s.Waiting(t.Context(), asked...)
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"a": true, "b": true, "": true}, waiting)

		// By a message: its key, with those that wait.
		for _, id := range []string{"t-0-2", "t-0-1"} {
			k, messages, err := s.Key(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, all[0], k)
			require.Equal(t, []parking.Message{
				{ID: "t-0-1", EventID: "1", Bytes: 4, Sent: noon.Add(-time.Hour), Since: noon, Attempts: 2},
				{ID: "t-0-2", EventID: "2", Bytes: 6, Sent: noon.Add(-time.Hour), Since: noon},
				{ID: "t-0-3", EventID: "3", Sent: noon.Add(-time.Hour), Since: noon.Add(time.Minute)},
			}, messages)
		}
		k, messages, err := s.Key(t.Context(), "u-0-5")
		require.NoError(t, err)
		require.Equal(t, "t-1-9", k.Letter)
		require.False(t, messages[0].Blocks)
		_, messages, err = s.Key(t.Context(), "t-1-9")
		require.NoError(t, err)
		require.Equal(t, []bool{true, false}, []bool{messages[0].Blocks, messages[1].Blocks})
		for id, key := range map[string]string{"t-0-7": "k\x00\xff", "t-0-8": ""} {
			k, _, err := s.Key(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, key, string(k.Key))
			require.Equal(t, 1, k.Messages)
		}
		_, _, err = s.Key(t.Context(), "t-0-99")
		require.ErrorIs(t, err, parking.ErrNotFound)
	})
}

// TestAKeyOfManyMessages: what is shown of one is bounded.
func TestAKeyOfManyMessages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newStore(db)
		var all []kafka.Parked
		for n := range 60 {
			all = append(all, parked(0, int64(n), "k", "x"))
		}
		slices.Reverse(all)
		require.NoError(t, s.Park(t.Context(), all...))
		k, messages, err := s.Key(t.Context(), "t-0-59")
		require.NoError(t, err)
		require.Equal(t, 60, k.Messages)
		require.Len(t, messages, 50)
		require.Equal(t, "t-0-0", messages[0].ID)
	})
}

// What it costs to look for a few, or to remove them, does not depend on how many are parked, also when PostgreSQL made its
// plan while hardly anything was.
func TestCostDoesNotGrowWithWhatIsParked(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{"parked": parking.Migrations}, database.MaxConns(1))
		s := newStore(db)
		park := func(from, n int64) {
			all := make([]kafka.Parked, n)
			for i := range all {
				all[i] = parked(0, from+int64(i), fmt.Sprint("key", from+int64(i)), "v")
			}
			require.NoError(t, s.Park(t.Context(), all...))
		}
		look := func(offset int64) (rows int64) {
			before := databasetest.RowsRead(t, db, "parked")
			for _, waits := range []bool{true, false} {
				waiting, err := s.Waiting(t.Context(), fmt.Sprint("key", offset), "none")
				require.NoError(t, err)
				require.Equal(t, waits, waiting[fmt.Sprint("key", offset)])
				require.NoError(t, s.Remove(t.Context(), "t", 0, offset))
			}
			return databasetest.RowsRead(t, db, "parked") - before
		}
		park(1, 10)
		databasetest.Analyze(t, db)
		look(1)
		park(100, 5_000)
		require.LessOrEqual(t, look(2), int64(4))
	})
}

// A message that is blocked at the moment at which it is let go is gone afterwards: its key would wait for ever.
func TestRemovedWhileItIsBlocked(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			return // one writes after the other
		}
		s := newStore(db)
		require.NoError(t, s.Park(t.Context(), parked(0, 1, "a", "v")))
		removed := make(chan error, 1)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE parked SET blocked_at = parked_at")
			require.NoError(t, err)
			go func() { removed <- s.Remove(t.Context(), "t", 0, 1) }()
			require.Eventually(t, func() bool { // it waits for this transaction
				var waiting int
				row := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
				return row.Scan(&waiting) == nil && waiting == 1
			}, 10*time.Second, 10*time.Millisecond)
			return nil
		}))
		require.NoError(t, <-removed)
		require.Empty(t, first(t, s, 0, "a"))
	})
}
