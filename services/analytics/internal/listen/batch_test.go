package listen

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/analytics/internal/rules"
	"github.com/orderflow/orderflow/services/analytics/internal/store"
)

// replica is a process's way to the service's database.
type replica struct {
	t   testing.TB
	db  *database.DB
	out *outbox.Outbox
}

func open(t testing.TB, url string) replica {
	db := databasetest.Open(t, url, map[string]fs.FS{"service": store.Migrations(), "outbox": outbox.Migrations})
	return replica{t, db, outbox.New(db, event.NewFactory("/test"), outbox.Options{})}
}

// another is a replica with connections of its own; on SQLite those would only wait for each other's files.
func (r replica) another(url string) replica {
	if r.db.Dialect() == database.SQLite {
		return r
	}
	return open(r.t, url)
}

// run counts events in one transaction, as the consumer does with one message or with those that waited.
func (r replica) run(list ...rules.Event) error {
	return r.out.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx *outbox.Tx) error {
		if len(list) > 1 {
			batch := make([]event.Event, len(list))
			for i, e := range list {
				batch[i].Key = e.OrderID
			}
			if err := readAhead(ctx, tx, batch); err != nil {
				return err
			}
		}
		for _, e := range list {
			if err := count(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// totals is everything that the service says.
type totals struct {
	States    map[rules.State]int64
	Revenue   []store.Revenue
	Minutes   []store.Minute
	Customers map[string][]store.CustomerTotals
}

func (r replica) totals() totals {
	var all totals
	var err error
	all.States, all.Revenue, err = store.Figures(r.t.Context(), r.db)
	require.NoError(r.t, err)
	all.Minutes, err = store.Minutes(r.t.Context(), r.db, at, at.Add(time.Hour))
	require.NoError(r.t, err)
	all.Customers = map[string][]store.CustomerTotals{}
	for i := range customers {
		id := fmt.Sprint("c", i)
		all.Customers[id], err = store.Customer(r.t.Context(), r.db, id)
		require.NoError(r.t, err)
	}
	return all
}

var at = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

const customers = 5

// story is what happens to n orders, each event now and then twice, in any order.
func story(random *rand.Rand, n int) (all []rules.Event) {
	for i := range n {
		e := rules.Event{
			Kind: rules.Created, OrderID: fmt.Sprint("o", i), CustomerID: fmt.Sprint("c", i%customers), Version: 1,
			Total: events.Money{Amount: random.Int64N(1000), Currency: []string{"EUR", "SEK"}[random.IntN(2)]},
			At:    at.Add(time.Duration(random.IntN(600)) * time.Second),
		}
		all = append(all, e)
		if e.Kind = rules.Kind(1 << random.IntN(3)); e.Kind != rules.Created {
			e.Version, e.At = 2, e.At.Add(time.Minute)
			all = append(all, e)
		}
		if random.IntN(3) == 0 {
			all = append(all, e)
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// expected is what the rules alone make of a story.
func expected(story []rules.Event) totals {
	all := totals{States: map[rules.State]int64{rules.Pending: 0, rules.StateConfirmed: 0, rules.StateCancelled: 0}}
	orders := map[string]rules.Order{}
	for _, e := range story {
		after, c, _ := rules.Apply(orders[e.OrderID], e)
		orders[e.OrderID] = after
		if c.Left != "" {
			all.States[c.Left]--
		}
		if c.Entered != "" {
			all.States[c.Entered]++
		}
	}
	return all
}

// The same story in batches, one by one, and in batches of three replicas at once, whose transactions meet at the same new
// orders and at the same sums: the same figures, and nothing has to be done again.
func TestSumsAreTheSameHoweverTheyAreAddedUp(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	messages := story(random, 150)
	single := open(t, "sqlite:"+t.TempDir()+"/single.db")
	for _, e := range messages {
		require.NoError(t, single.run(e))
	}
	want := single.totals()
	require.Equal(t, expected(messages).States, want.States)
	require.NotEmpty(t, want.Minutes)
	t.Run("batches", func(t *testing.T) {
		t.Parallel()
		databasetest.Each(t, func(t *testing.T, url string) {
			r := open(t, url)
			for rest, i := messages, 0; len(rest) > 0; i++ {
				n := min(1+i%30, len(rest))
				require.NoError(t, r.run(rest[:n]...))
				rest = rest[n:]
			}
			require.Equal(t, want, r.totals())
		})
	})
	t.Run("replicas", func(t *testing.T) {
		t.Parallel()
		databasetest.Each(t, func(t *testing.T, url string) {
			shares := make([][]rules.Event, 3)
			for i, e := range messages {
				shares[i%3] = append(shares[i%3], e)
			}
			var wg sync.WaitGroup
			first := open(t, url)
			for _, share := range shares {
				r := first.another(url)
				wg.Go(func() {
					for batch := range slices.Chunk(share, 5) {
						if err := r.run(batch...); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			require.Equal(t, want, first.totals())
		})
	})
}

// An order's whole life in one batch, the end of it first.
func TestOneOrderInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		r := open(t, url)
		created := rules.Event{
			Kind: rules.Created, OrderID: "o", CustomerID: "c1", Version: 1, Total: events.Money{Amount: 7, Currency: "EUR"}, At: at,
		}
		confirmed := created
		confirmed.Kind, confirmed.Version, confirmed.At = rules.Confirmed, 2, at.Add(time.Minute)
		require.NoError(t, r.run(confirmed, created, confirmed, created))
		require.NoError(t, r.run(created, confirmed))
		got := r.totals()
		require.Equal(t, map[rules.State]int64{rules.Pending: 0, rules.StateConfirmed: 1, rules.StateCancelled: 0}, got.States)
		require.Equal(t, []store.Revenue{{Currency: "EUR", Amount: 7, Orders: 1}}, got.Revenue)
		require.Equal(t, []store.Minute{{Start: at, Created: 1}, {Start: at.Add(time.Minute), Confirmed: 1}}, got.Minutes)
		require.Equal(t, []store.CustomerTotals{{Currency: "EUR", Orders: 1, Confirmed: 1, Spent: 7}}, got.Customers["c1"])
	})
}

// A replica that comes to an order which another has just heard of waits, and then counts on.
func TestReplicasMeetAtANewOrder(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		first := open(t, url)
		second := first.another(url)
		created := rules.Event{
			Kind: rules.Created, OrderID: "o", CustomerID: "c1", Version: 1, Total: events.Money{Amount: 7, Currency: "EUR"}, At: at,
		}
		confirmed := created
		confirmed.Kind, confirmed.Version = rules.Confirmed, 2
		done := make(chan error, 1)
		require.NoError(t, first.out.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
			if err := count(ctx, tx, confirmed); err != nil {
				return err
			}
			go func() { done <- second.run(created) }()
			return waits(t, first.db)
		}))
		require.NoError(t, <-done)
		got := first.totals()
		require.Equal(t, map[rules.State]int64{rules.Pending: 0, rules.StateConfirmed: 1, rules.StateCancelled: 0}, got.States)
		require.Equal(t, []store.CustomerTotals{{Currency: "EUR", Orders: 1, Confirmed: 1, Spent: 7}}, got.Customers["c1"])
	})
}

// waits returns when another transaction waits for a lock of this one; on SQLite they all do, at their begin.
func waits(t *testing.T, db *database.DB) error {
	if db.Dialect() == database.Postgres {
		require.Eventually(t, func() bool {
			var n int
			err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
			return err == nil && n == 1
		}, 10*time.Second, time.Millisecond)
	}
	return nil
}

// As many statements for a batch of any size.
func TestStatementsOfABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, counted, ok := databasetest.Counted(t, url)
		if !ok {
			return // on SQLite a statement costs no round trip
		}
		r := open(t, url)
		for _, n := range []int{2, 64, 256} {
			for kind, want := range map[rules.Kind]int{rules.Created: 8, rules.Confirmed: 9} {
				var list []rules.Event
				for i := range n {
					list = append(list, rules.Event{
						Kind: kind, OrderID: fmt.Sprint(n, kind, i), CustomerID: fmt.Sprint(i), Version: 1,
						Total: events.Money{Amount: 1, Currency: "EUR"}, At: at,
					})
				}
				before := counted()
				require.NoError(t, r.run(list...))
				require.Equal(t, want, counted()-before, "BEGIN, orders three times, customers, minutes, revenue if any, states, COMMIT")
			}
		}
	})
}
