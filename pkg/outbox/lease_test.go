package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// held are the owners of the shards' leases that have been taken and not given back, by name.
func held(t testing.TB, db *database.DB) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), `SELECT name, owner FROM outbox_lease WHERE name LIKE 'shard-%' AND until > $1`, time.Unix(1, 0))
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	owners := map[string]string{}
	for rows.Next() {
		var name, owner string
		require.NoError(t, rows.Scan(&name, &owner))
		owners[name] = owner
	}
	require.NoError(t, rows.Err())
	return owners
}

// A relay that died in the middle of a batch: its lease runs out, another sends the same row and those behind it. When
// the dead one turns out to be alive, its late delivery is a double, and it deletes nothing.
func TestDeposedRelayDoublesAndNeverReorders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		b, c := &broker{}, newClock()
		boxA, boxB := newBox(db, outbox.Options{}), newBox(db, outbox.Options{})
		publish(t, boxA, "k", 1, 2)

		has, goOn := make(chan struct{}, 1), make(chan struct{})
		a := boxA.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			has <- struct{}{}
			<-goOn
			b.deliver(batch...)
			return nil
		}), outbox.RelayOptions{Owner: "a", Now: c.Now, Poll: tick, LeaseTTL: never})
		stopA := run(t, a)
		<-has

		second := boxB.Relay(b.sender(), outbox.RelayOptions{Owner: "b", Now: c.Now, Poll: tick, LeaseTTL: never})
		stopB := run(t, second)
		require.Never(t, func() bool { return b.len() > 0 }, 50*time.Millisecond, tick, "the lease is a's")
		c.add(never + time.Second)
		require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
		require.Equal(t, map[string][]int{"k": {1, 2}}, b.first(t))

		// A row appears while nobody but a would delete it.
		stopB()
		c.add(-time.Hour) // a's own lease seems good to it
		publish(t, boxB, "other", 1)
		close(goOn)
		require.Eventually(t, func() bool { return b.len() >= 3 }, soon, tick)
		stopA()
		require.Equal(t, []int{1, 2}, b.first(t)["k"])
	})
}

// The guard itself: a relay whose leases were taken over sends nothing more. What was acknowledged to it, it deletes.
func TestDeposedRelaySendsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b, c := newBox(db, outbox.Options{}), &broker{}, newClock()
		publish(t, box, "k", 1)
		stop := run(t, box.Relay(senderFunc(func(_ context.Context, batch []event.Addressed) []error {
			b.deliver(batch...)
			require.NoError(t, db.InTx(context.Background(), func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET owner = 'another', fence = fence + 1, until = $1 WHERE name LIKE 'shard-%'`, c.Now().Add(never))
				return err
			}))
			publish(t, box, "k", 2)
			c.add(time.Minute) // its own have run out
			return nil
		}), outbox.RelayOptions{Owner: "a", Poll: tick, Now: c.Now}))
		require.Eventually(t, func() bool { return b.len() == 1 && rowCount(t, db) == 1 }, soon, tick)
		require.Never(t, func() bool { c.add(time.Second); return b.len() != 1 }, 50*time.Millisecond, tick)
		stop()
		require.Equal(t, 1, rowCount(t, db))
		for name, owner := range held(t, db) {
			require.Equal(t, "another", owner, "nor does it give back what is not its own: "+name)
		}
	})
}

func TestStoppedRelayIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		stop := run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "a", LeaseTTL: never}))
		publish(t, box, "k", 1)
		require.Eventually(t, func() bool { return b.len() == 1 }, soon, tick)
		stop()
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "b", LeaseTTL: never}))
		publish(t, box, "k", 2)
		require.Eventually(t, func() bool { return b.len() == 2 }, soon, tick)
	})
}

// A process that was killed and starts again under its name does not wait for its own lease to run out.
func TestRestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, b := newBox(db, outbox.Options{}), &broker{}
		publish(t, box, "k", 1)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ('shard-0', 'pod-0', 7, $1)`, time.Now().Add(never))
			for i := 1; i < 8 && err == nil; i++ {
				_, err = tx.ExecContext(ctx, `INSERT INTO outbox_lease (name, owner, fence, until) VALUES ($1, 'pod-0', 7, $2)`, fmt.Sprint("shard-", i), time.Now().Add(never))
			}
			return err
		}))
		stop := run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "pod-1"}))
		require.Never(t, func() bool { return b.len() > 0 }, 50*time.Millisecond, tick)
		stop()
		run(t, box.Relay(b.sender(), outbox.RelayOptions{Owner: "pod-0"}))
		require.Eventually(t, func() bool { return b.len() == 1 }, soon, tick)
	})
}

// Invariant 4 under random transactions, failures of every kind and relays that take the lease from each other: every
// event arrives, and each key's first deliveries are in order of commit.
func TestOrderUnderRandomFailures(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, migrations)
		rapid.Check(t, func(rt *rapid.T) {
			b := &broker{}
			var mu sync.Mutex
			fates := rapid.SliceOfN(rapid.SampledFrom([]string{"sent", "sent", "sent", "lost", "lost", "late", "told wrong"}), 40, 40).Draw(rt, "fates")
			steals := rapid.SliceOfN(rapid.Bool(), 10, 10).Draw(rt, "steals")
			send := func(ctx context.Context, batch []event.Addressed) []error {
				mu.Lock()
				defer mu.Unlock()
				if len(steals) > 0 {
					if steals[0] { // somebody else held it for a moment
						_ = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
							_, err := tx.ExecContext(ctx, `UPDATE outbox_lease SET fence = fence + 1, until = $1`, time.Unix(0, 0))
							return err
						})
					}
					steals = steals[1:]
				}
				return promised(func(a event.Addressed) error {
					fate := "sent"
					if len(fates) > 0 {
						fate, fates = fates[0], fates[1:]
					}
					switch fate {
					case "lost":
						return errors.New("lost")
					case "told wrong": // delivered, and the answer was lost
						b.deliver(a)
						return errors.New("no answer")
					case "late": // delivered twice
						b.deliver(a, a)
					default:
						b.deliver(a)
					}
					return nil
				})(ctx, batch)
			}
			opts := outbox.RelayOptions{
				Poll: tick, Limit: rapid.IntRange(1, 5).Draw(rt, "limit"), BackoffInitial: 50 * time.Microsecond, BackoffMax: time.Millisecond,
			}
			want := map[string][]int{}
			var stops []func()
			boxes := []*outbox.Outbox{newBox(db, outbox.Options{}), newBox(db, outbox.Options{})}
			ctx, cancel := context.WithCancel(context.Background())
			for i, box := range boxes {
				opts.Owner = fmt.Sprint("relay", i)
				r, ended := box.Relay(senderFunc(send), opts), make(chan struct{})
				go func() { defer close(ended); _ = r.Run(ctx) }()
				stops = append(stops, func() { <-ended })
			}
			defer func() {
				cancel()
				for _, stop := range stops {
					stop()
				}
			}()
			n := 0
			for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
				var ns []int
				for range rapid.IntRange(1, 4).Draw(rt, "events") {
					n++
					ns = append(ns, n)
				}
				publish(t, rapid.SampledFrom(boxes).Draw(rt, "replica"), key, ns...)
				want[key] = append(want[key], ns...)
			}
			require.Eventually(t, func() bool { return rowCount(t, db) == 0 }, soon, tick)
			require.Equal(rt, want, b.first(t))
		})
	})
}
