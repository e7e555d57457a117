package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// counts are how many shards each relay holds.
func counts(t testing.TB, db *database.DB) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, owner := range held(t, db) {
		n[owner]++
	}
	return n
}

// Relays share the shards evenly, those that leave give theirs back at once, and those that die are followed.
func TestRelaysShareTheShards(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			return // one process has the file
		}
		c, b := newClock(), &broker{}
		start := func(name string) (stop func()) {
			box := newBox(db, outbox.Options{})
			return run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: name, Poll: tick, Now: c.Now}))
		}
		become := func(want map[string]int) {
			t.Helper()
			require.Eventually(t, func() bool {
				c.add(10 * tick)
				return fmt.Sprint(counts(t, db)) == fmt.Sprint(want)
			}, soon, tick, "want %v", want)
		}
		stopA := start("a")
		become(map[string]int{"a": 8})
		stopB := start("b")
		become(map[string]int{"a": 4, "b": 4})
		stopC := start("c")
		require.Eventually(t, func() bool {
			c.add(10 * tick)
			n := counts(t, db)
			return n["a"]+n["b"]+n["c"] == 8 && max(n["a"], n["b"], n["c"]) == 3
		}, soon, tick)
		stopA()
		become(map[string]int{"b": 4, "c": 4})
		stopB()
		become(map[string]int{"c": 8})
		stopC()

		// One that died holds what it held for as long as its leases last, and no longer.
		exec(t, db, `UPDATE outbox_lease SET owner = 'dead', until = $1 WHERE name LIKE 'shard-%'`, c.Now().Add(10*time.Second))
		exec(t, db, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ('member:dead', 'dead', 0, $1)`, c.Now().Add(10*time.Second))
		start("d")
		require.Never(t, func() bool { c.add(tick); return counts(t, db)["d"] > 0 }, 50*time.Millisecond, tick)
		c.add(10 * time.Second)
		become(map[string]int{"d": 8})
		require.Eventually(t, func() bool {
			c.add(time.Second)
			var n int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox_lease WHERE name LIKE 'member:%'`).Scan(&n))
			return n == 1
		}, soon, tick, "relays that are long gone are forgotten")
	})
}

// What another replica commits is sent soon, though no commit of this process tells of it.
func TestOthersRowsDoNotWaitForThePoll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			return // one process has the file
		}
		c, b := newClock(), &broker{}
		far := c.Now().Add(24 * time.Hour)
		exec(t, db, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ('member:other', 'other', 0, $1)`, far)
		for shard := range 4 {
			exec(t, db, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ($1, 'other', 0, $2)`, fmt.Sprint("shard-", shard), far)
		}
		box := newBox(db, outbox.Options{})
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "this", Poll: time.Hour, LeaseTTL: 12 * time.Hour, Now: c.Now}))
		require.Eventually(t, func() bool { return counts(t, db)["this"] == 4 }, soon, tick)
		others := newBox(db, outbox.Options{})
		for n := range 3 {
			for key := range 32 {
				publish(t, others, fmt.Sprint("key-", key), n)
			}
			require.Eventually(t, func() bool {
				var left int
				require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox WHERE hashtext(aggregateid) & 7 >= 4`).Scan(&left))
				return left == 0
			}, soon, tick)
		}
	})
}

// Invariant 4 with relays that come and go: each key's order is kept, nothing is lost, and nothing is sent twice unless
// a relay was killed.
func TestOrderWhileRelaysComeAndGo(t *testing.T) {
	t.Parallel()
	for _, kills := range []bool{false, true} {
		t.Run(fmt.Sprint("kills=", kills), func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) { comeAndGo(t, url, kills) })
		})
	}
}

func comeAndGo(t *testing.T, url string, kills bool) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random, b := rand.New(rand.NewPCG(seed, 0)), &broker{}
	db := databasetest.Open(t, url, migrations)
	box := newBox(db, outbox.Options{})
	var killed atomic.Int64
	ttl := 10 * time.Second
	if kills {
		ttl = 300 * time.Millisecond
	}
	start := func(i int) (stop func(), kill *atomic.Bool) {
		own, err := database.Open(t.Context(), url)
		require.NoError(t, err)
		dice := rand.New(rand.NewPCG(seed, uint64(i+1)))
		kill = &atomic.Bool{}
		send := promised(func(a event.Addressed) error {
			if dice.IntN(50) == 0 {
				return errors.New("lost")
			}
			b.deliver(a)
			return nil
		})
		r := newBox(own, outbox.Options{}).Relay(senderFunc(func(ctx context.Context, batch []event.Addressed) []error {
			errs := send(ctx, batch)
			if kill.CompareAndSwap(true, false) { // before it can delete what the broker has, or give back its leases
				killed.Add(1)
				_ = own.Close()
			}
			return errs
		}), outbox.RelayOptions{
			Owner: fmt.Sprint("relay", i), Poll: 5 * tick, LeaseTTL: ttl, Limit: 20, BackoffInitial: tick, BackoffMax: 5 * tick,
		})
		end := run(t, r)
		return func() { end(); _ = own.Close() }, kill
	}
	want := map[string][]int{}
	var running, dying []func()
	var kill []*atomic.Bool
	n := 0
	for i := range 40 {
		switch {
		case len(running) == 0 || len(running) < 3 && random.IntN(2) == 0:
			stop, k := start(i)
			running, kill = append(running, stop), append(kill, k)
		case random.IntN(2) == 0:
			k := random.IntN(len(running))
			if kills && random.IntN(2) == 0 {
				kill[k].Store(true)
				dying = append(dying, running[k])
			} else {
				running[k]()
			}
			running, kill = slices.Delete(running, k, k+1), slices.Delete(kill, k, k+1)
		}
		for range 5 {
			key := fmt.Sprint("key", random.IntN(30))
			var ns []int
			for range 10 {
				n++
				ns = append(ns, n)
			}
			publish(t, box, key, ns...)
			want[key] = append(want[key], ns...)
		}
	}
	last, _ := start(100)
	// SQLite under the race detector, on a machine that has other work, needs its time.
	require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, 3*soon, tick)
	for _, stop := range append(append(running, dying...), last) {
		stop()
	}
	require.Equal(t, want, b.first(t))
	t.Logf("%d rows, %d deliveries, %d relays were killed", n, b.len(), killed.Load())
	if !kills {
		require.Equal(t, n, b.len(), "none went twice")
	}
}

// A row whose transaction commits late has a lower seq than rows that were sent before, and is sent all the same; and
// so are those that were paused before it.
func TestRowsThatAppearLate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			return // transactions follow one another
		}
		box, b := newBox(db, outbox.Options{}), &broker{}
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Poll: tick}))
		goOn, inserted, committed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			committed <- db.InTx(context.Background(), func(ctx context.Context, tx *database.Tx) error {
				// As box.InTx inserts it, just before a commit that takes its time.
				if err := insert(ctx, tx, 1, 1, "late"); err != nil {
					return err
				}
				close(inserted)
				<-goOn
				return nil
			})
		}()
		<-inserted
		for i := range 20 {
			publish(t, box, "a", i)
			require.Eventually(t, func() bool { return b.len() == i+1 && rowCount(t, db) == 0 }, soon, tick)
		}
		close(goOn)
		require.NoError(t, <-committed)
		require.Eventually(t, func() bool { return b.len() == 21 && rowCount(t, db) == 0 }, soon, tick)
		require.Len(t, b.first(t)["late0"], 1)
	})
}

// A key that waits with more rows than one look walks over keeps nobody waiting, and goes once it can.
func TestALongPausedKeyIsWalkedOver(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		n := 70_000 // more than one look walks over
		if db.Dialect() == database.SQLite {
			n = 3000 // with the race detector it takes a millisecond a row
		}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return insert(ctx, tx, n, 1, "stuck") }))
		publish(t, box, "free", 1)
		var mu sync.Mutex
		stuck := true
		run(t, box.Relay(promised(func(a event.Addressed) error {
			mu.Lock()
			defer mu.Unlock()
			if a.Event.Key == "stuck0" && stuck {
				return fault.Unavailablef("stuck")
			}
			b.deliver(a)
			return nil
		}), outbox.RelayOptions{Poll: tick, BackoffInitial: tick, BackoffMax: 10 * tick}))
		require.Eventually(t, func() bool { return b.len() == 1 }, soon, tick)
		for i := range 5 {
			publish(t, box, "free", i+2)
			require.Eventually(t, func() bool { return b.len() == i+2 }, soon, tick)
		}
		mu.Lock()
		stuck = false
		mu.Unlock()
		require.Eventually(t, func() bool { return b.len() > 3*database.MaxRows }, soon, tick)
	})
}
