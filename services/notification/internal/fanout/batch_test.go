package fanout

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/notification/internal/rules"
	"github.com/orderflow/orderflow/services/notification/internal/store"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
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

// run notifies of transitions in one transaction, as the consumer does with one message or with those that waited.
func (r replica) run(list ...rules.Notification) error {
	n := notifier{true, map[string]func(event.Event) (rules.Notification, bool){
		"said": func(e event.Event) (said rules.Notification, ok bool) {
			return said, json.Unmarshal(e.Data, &said) == nil
		},
	}}
	return r.out.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx *outbox.Tx) error {
		if len(list) > 1 {
			batch := []event.Event{{Type: "other"}}
			for _, said := range list {
				data, err := json.Marshal(said)
				require.NoError(r.t, err)
				batch = append(batch, event.Event{Type: "said", Data: data})
			}
			if err := n.readAhead(ctx, tx, batch); err != nil {
				return err
			}
		}
		for _, said := range list {
			if err := n.notify(ctx, tx, said); err != nil {
				return err
			}
		}
		return nil
	})
}

// sent is what is in the outbox for a topic, by customer.
func (r replica) sent(topic string) map[string][]notificationapi.Notification {
	rows, err := r.db.QueryContext(r.t.Context(), `SELECT payload FROM outbox WHERE topic = $1 ORDER BY seq`, topic)
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, rows.Close()) }()
	all := map[string][]notificationapi.Notification{}
	for rows.Next() {
		var payload string
		var n notificationapi.Notification
		require.NoError(r.t, rows.Scan(&payload))
		require.NoError(r.t, json.Unmarshal([]byte(payload), &n))
		all[n.CustomerID] = append(all[n.CustomerID], n)
	}
	require.NoError(r.t, rows.Err())
	return all
}

// check says that each customer was told each transition of these once, with numbers from 1 without a gap, in the order in
// which the entries leave; and that list, stream and channel say the same.
func (r replica) check(story []rules.Notification) {
	want := map[string][]string{}
	for _, n := range story {
		if !slices.Contains(want[n.CustomerID], n.ID) {
			want[n.CustomerID] = append(want[n.CustomerID], n.ID)
		}
	}
	entries, tasks := r.sent(FeedTopic), r.sent(webhook.Stream)
	require.Equal(r.t, entries, tasks)
	require.Len(r.t, entries, len(want))
	total := int64(0)
	for customer, list := range entries {
		var ids []string
		for i, n := range list {
			require.Equal(r.t, feed.Position(int64(i)+1), n.Position)
			ids = append(ids, n.ID)
		}
		require.ElementsMatch(r.t, want[customer], ids)
		listed, err := store.List(r.t.Context(), r.db, customer, 0, 1000)
		require.NoError(r.t, err)
		slices.Reverse(listed)
		for i, n := range listed {
			require.Equal(r.t, list[i], View(n))
		}
		total += int64(len(list))
	}
	totals, err := store.Count(r.t.Context(), r.db)
	require.NoError(r.t, err)
	require.Equal(r.t, store.Totals{Notifications: total, Channels: map[string]map[store.State]int64{webhook.Name: {store.Waiting: total}}}, totals)
}

func said(order, customer, kind string, version int64) rules.Notification {
	return rules.Notification{
		ID: order + "-" + kind, OrderID: order, CustomerID: customer, Kind: kind, OrderVersion: version, Title: "t", Text: "x",
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// story is what happens to n orders, each transition now and then said twice, in any order.
func story(random *rand.Rand, n int) (all []rules.Notification) {
	for i := range n {
		order, customer := fmt.Sprint("o", i), fmt.Sprint("c", random.IntN(6))
		all = append(all, said(order, customer, rules.OrderPlaced, 1))
		if random.IntN(2) == 0 {
			all = append(all, said(order, customer, rules.OrderCancelled, 3), said(order, customer, rules.OrderRefunded, 0))
		}
		if random.IntN(3) == 0 {
			all = append(all, all[len(all)-1])
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// What is said of one order in one batch: each transition once, and a refund speaks of the order as far as it is known.
func TestOneOrderInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		r := open(t, url)
		all := []rules.Notification{
			said("o", "c", rules.OrderPlaced, 1), said("p", "c", rules.OrderRefunded, 0), said("o", "c", rules.OrderPlaced, 1),
			said("o", "c", rules.OrderCancelled, 3), said("o", "c", rules.OrderRefunded, 0),
		}
		require.NoError(t, r.run(all...))
		require.NoError(t, r.run(all...))
		require.NoError(t, r.run(said("q", "c", rules.OrderCancelled, 7)))
		require.NoError(t, r.run(said("q", "c", rules.OrderRefunded, 0), said("q", "d", rules.OrderPlaced, 1)))
		r.check(append(all, said("q", "c", rules.OrderCancelled, 7), said("q", "c", rules.OrderRefunded, 0), said("q", "d", rules.OrderPlaced, 1)))
		listed, err := store.List(t.Context(), r.db, "c", 0, 10)
		require.NoError(t, err)
		versions := map[string]int64{}
		for _, n := range listed {
			versions[n.ID] = n.OrderVersion
		}
		require.Equal(t, map[string]int64{
			"o-order_placed": 1, "p-order_refunded": 1, "o-order_cancelled": 3, "o-order_refunded": 3, "q-order_cancelled": 7, "q-order_refunded": 7,
		}, versions)
	})
}

// In batches of several sizes, and one by one where a batch has one: the same.
func TestNumbersOfBatches(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	all := story(rand.New(rand.NewPCG(seed, 0)), 60)
	databasetest.Each(t, func(t *testing.T, url string) {
		r := open(t, url)
		for rest, i := all, 0; len(rest) > 0; i++ {
			n := min(1+i%9, len(rest))
			require.NoError(t, r.run(rest[:n]...))
			rest = rest[n:]
		}
		r.check(all)
	})
}

// Replicas whose batches are about the same customers, new ones too, and the same transitions: nobody waits in a circle,
// nothing has to be done again, and the numbers have no gap.
func TestNumbersOfReplicas(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		all := story(rand.New(rand.NewPCG(seed, 0)), 60)
		var wg sync.WaitGroup
		first := open(t, url)
		for i := range 3 {
			r := first.another(url)
			random := rand.New(rand.NewPCG(seed, uint64(i)+1))
			mine := slices.Clone(all) // all of them tell everything
			random.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			wg.Go(func() {
				for batch := range slices.Chunk(mine, 2+i) {
					if err := r.run(batch...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		first.check(all)
	})
}

// As many statements for a batch of any size.
func TestStatementsOfABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		url, count, ok := databasetest.Counted(t, url)
		if !ok {
			return // on SQLite a statement costs no round trip
		}
		r := open(t, url)
		for _, n := range []int{2, 64, 200} {
			for _, kind := range []string{rules.OrderPlaced, rules.OrderRefunded} {
				var list []rules.Notification
				for i := range n {
					list = append(list, said(fmt.Sprint(n, "-", i), fmt.Sprint("c", i%(n/2)), kind, 0))
				}
				before := count()
				require.NoError(t, r.run(list...))
				require.EqualValues(t, 9, count()-before, "BEGIN, customers three times, notifications twice, deliveries, outbox, COMMIT")
			}
		}
	})
}
