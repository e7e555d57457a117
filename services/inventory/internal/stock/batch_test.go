package stock

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
	"github.com/orderflow/orderflow/services/inventory/internal/store"
)

// replica is a process's way to the service's database.
type replica struct {
	t   testing.TB
	db  *database.DB
	out *outbox.Outbox
}

func open(t testing.TB, url string) replica {
	db := databasetest.Open(t, url, map[string]fs.FS{"service": store.Migrations(), "outbox": outbox.Migrations})
	factory := event.NewFactory("/test")
	factory.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	return replica{t, db, outbox.New(db, factory, outbox.Options{})}
}

// another is a replica with connections of its own; on SQLite those would only wait for each other's files.
func (r replica) another(url string) replica {
	if r.db.Dialect() == database.SQLite {
		return r
	}
	return open(r.t, url)
}

// message is one for an order: a reserve command when it has lines.
type message struct {
	order string
	kind  string
	lines []events.Line
}

func (m message) event(t testing.TB) event.Event {
	body := map[string]event.Body{
		events.TypeInventoryReserve: events.InventoryReserve{OrderID: m.order, Lines: m.lines},
		events.TypeInventoryRelease: events.InventoryRelease{OrderID: m.order, Reason: events.NewReason("test", "")},
		events.TypeOrderConfirmed:   events.OrderConfirmed{OrderID: m.order},
	}[m.kind]
	e, err := event.NewFactory("/test").New(t.Context(), m.kind, m.order, body)
	require.NoError(t, err)
	return e
}

func handle[T event.Body](ctx context.Context, tx *outbox.Tx, e event.Event, h func(context.Context, *outbox.Tx, event.Event, T) error) error {
	var body T
	if err := json.Unmarshal(e.Data, &body); err != nil {
		return err
	}
	return h(ctx, tx, e, body)
}

// run handles messages in one transaction, as the consumer does with one message or with those that waited. What is
// refused for ever would be dead-lettered; it has changed nothing.
func (r replica) run(messages ...message) error {
	batch := make([]event.Event, len(messages))
	for i, m := range messages {
		batch[i] = m.event(r.t)
	}
	return r.out.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx *outbox.Tx) error {
		if len(batch) > 1 {
			if err := readAhead(ctx, tx, batch); err != nil {
				return err
			}
		}
		for _, e := range batch {
			var err error
			switch e.Type {
			case events.TypeInventoryReserve:
				err = handle(ctx, tx, e, reserve)
			case events.TypeInventoryRelease:
				err = handle(ctx, tx, e, release)
			default:
				err = handle(ctx, tx, e, ship)
			}
			if err != nil && fault.KindOf(err) != fault.Permanent {
				return err
			}
		}
		return nil
	})
}

// said is what was published, in its order, as "type key".
func (r replica) said() (all []string) {
	rows, err := r.db.QueryContext(r.t.Context(), `SELECT type, aggregateid FROM outbox ORDER BY seq`)
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, rows.Close()) }()
	for rows.Next() {
		var typ, key string
		require.NoError(r.t, rows.Scan(&typ, &key))
		all = append(all, typ+" "+key)
	}
	require.NoError(r.t, rows.Err())
	return all
}

func (r replica) stock(sku string) rules.Stock {
	s, err := store.Get(r.t.Context(), r.db, sku)
	require.NoError(r.t, err)
	return s
}

func reserving(order string, quantity int, skus ...string) message {
	m := message{order: order, kind: events.TypeInventoryReserve}
	for _, sku := range skus {
		m.lines = append(m.lines, events.Line{SKU: sku, Quantity: quantity})
	}
	return m
}

func releasing(order string) message { return message{order: order, kind: events.TypeInventoryRelease} }
func shipping(order string) message  { return message{order: order, kind: events.TypeOrderConfirmed} }

// Stock runs out in the midst of a batch: first come, first served, and what is given back goes to who comes after.
func TestStockRunsOutInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		r := open(t, url)
		require.NoError(t, r.run(
			reserving("a", 2, "LAMP-LIMITED", "MUG-BLUE"), reserving("b", 2, "MUG-BLUE", "LAMP-LIMITED"),
			reserving("c", 2, "LAMP-LIMITED", "MUG-BLUE"), // one is left
			reserving("d", 1, "LAMP-LIMITED"), reserving("e", 1, "LAMP-LIMITED"),
			releasing("a"), reserving("f", 2, "LAMP-LIMITED"), shipping("b"), reserving("g", 1, "LAMP-LIMITED", "NO-SUCH"),
		))
		require.Equal(t, []string{
			"inventory.reserved a", "inventory.reserved b", "inventory.rejected c", "inventory.reserved d",
			"inventory.rejected e", "inventory.released a", "inventory.reserved f", "inventory.rejected g",
		}, r.said())
		require.Equal(t, rules.Stock{SKU: "LAMP-LIMITED", Received: 5, Reserved: 3, Shipped: 2}, r.stock("LAMP-LIMITED"))
		require.Equal(t, rules.Stock{SKU: "MUG-BLUE", Received: 10000, Available: 9998, Shipped: 2}, r.stock("MUG-BLUE"))
		c, err := store.GetReservation(t.Context(), r.db, "c")
		require.NoError(t, err)
		require.Equal(t, rules.Rejected, c.State)
		require.Equal(t, []events.Shortage{{SKU: "LAMP-LIMITED", Requested: 2, Available: 1}}, c.Shortages)
		g, err := store.GetReservation(t.Context(), r.db, "g")
		require.NoError(t, err)
		require.Len(t, g.Shortages, 2)
	})
}

// All that can come for an order comes in one batch.
func TestOneOrderInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		r := open(t, url)
		require.NoError(t, r.run(
			reserving("a", 1, "LAMP-LIMITED"), reserving("a", 1, "LAMP-LIMITED"), releasing("a"), releasing("a"),
			reserving("a", 1, "LAMP-LIMITED"), shipping("a"),
			releasing("tomb"), reserving("tomb", 1, "LAMP-LIMITED"),
			reserving("b", 3, "LAMP-LIMITED"), shipping("b"), shipping("b"), releasing("b"), reserving("b", 3, "LAMP-LIMITED"),
		))
		require.Equal(t, []string{
			"inventory.reserved a", "inventory.reserved a", "inventory.released a", "inventory.released a", "inventory.rejected a",
			"inventory.released tomb", "inventory.rejected tomb", "inventory.reserved b", "inventory.reserved b",
		}, r.said())
		require.Equal(t, rules.Stock{SKU: "LAMP-LIMITED", Received: 5, Available: 2, Shipped: 3}, r.stock("LAMP-LIMITED"))
		for id, state := range map[string]rules.State{"a": rules.Released, "tomb": rules.Released, "b": rules.Shipped} {
			got, err := store.GetReservation(t.Context(), r.db, id)
			require.NoError(t, err)
			require.Equal(t, state, got.State, id)
		}
	})
}

var skus = []string{"COFFEE-1KG", "GRINDER-PRO", "KETTLE-STEEL", "LAMP-LIMITED", "MUG-BLUE", "SPOON-SET", "TEAPOT-RED"}

// story is n messages of which each order's begin with its reserve command, mostly.
func story(random *rand.Rand, name string, n int) (all []message) {
	for range n {
		order := fmt.Sprint(name, random.IntN(n/3+1))
		switch random.IntN(5) {
		case 0:
			all = append(all, releasing(order))
		case 1:
			all = append(all, shipping(order))
		default:
			shuffled := slices.Clone(skus)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			all = append(all, reserving(order, 1+random.IntN(2), shuffled[:1+random.IntN(4)]...))
		}
	}
	return all
}

// The same story in batches and one by one: the same rows, the same messages.
func TestBatchesDoWhatSingleMessagesDo(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	messages := story(random, "o", 150)
	sizes := make([]int, len(messages))
	for i := range sizes {
		sizes[i] = 1 + random.IntN(20)
	}
	databasetest.Each(t, func(t *testing.T, url string) {
		batches, single := open(t, url), open(t, "sqlite:"+t.TempDir()+"/single.db")
		for rest, i := messages, 0; len(rest) > 0; i++ {
			n := min(sizes[i], len(rest))
			require.NoError(t, batches.run(rest[:n]...))
			rest = rest[n:]
		}
		for _, m := range messages {
			require.NoError(t, single.run(m))
		}
		require.Equal(t, single.said(), batches.said())
		for _, sku := range skus {
			require.Equal(t, single.stock(sku), batches.stock(sku))
		}
		for _, m := range messages {
			want, wantErr := store.GetReservation(t.Context(), single.db, m.order)
			got, err := store.GetReservation(t.Context(), batches.db, m.order)
			require.Equal(t, wantErr, err)
			require.Equal(t, want, got)
		}
	})
}

// Replicas with batches of their own orders, for the same products: none waits in a circle or has to be done again, and
// what is missing from the shelves is what the orders hold.
func TestReplicasShareProducts(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var wg sync.WaitGroup
		r := open(t, url)
		for i := range 3 {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			other := r.another(url)
			wg.Go(func() {
				for round := range 25 {
					if err := other.run(story(random, fmt.Sprint(i, "-", round/3, "-"), 1+random.IntN(12))...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		held := map[string]rules.Stock{}
		ids := map[string]bool{}
		for _, said := range r.said() {
			_, id, _ := strings.Cut(said, " ")
			ids[id] = true
		}
		for id := range maps.Keys(ids) {
			got, err := store.GetReservation(t.Context(), r.db, id)
			require.NoError(t, err)
			for _, l := range got.Lines {
				s := held[l.SKU]
				switch got.State {
				case rules.Reserved:
					s.Reserved += int64(l.Quantity)
				case rules.Shipped:
					s.Shipped += int64(l.Quantity)
				}
				held[l.SKU] = s
			}
		}
		for _, sku := range skus {
			s := r.stock(sku)
			require.Equal(t, held[sku].Reserved, s.Reserved, sku)
			require.Equal(t, held[sku].Shipped, s.Shipped, sku)
			require.Equal(t, s.Received, s.Available+s.Reserved+s.Shipped, sku)
		}
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
		for _, n := range []int{2, 64, 256} {
			var all []message
			for i := range n {
				all = append(all, reserving(fmt.Sprint(n, "-", i), 1, skus[i%2], skus[1+i%2]))
			}
			before := count()
			require.NoError(t, r.run(all...))
			require.EqualValues(t, 7, count()-before, "BEGIN, two SELECTs, INSERT, UPDATE, outbox, COMMIT")
			for i := range all {
				all[i] = shipping(all[i].order)
			}
			before = count()
			require.NoError(t, r.run(all...))
			require.EqualValues(t, 6, count()-before, "BEGIN, two SELECTs, two UPDATEs, COMMIT")
		}
	})
}
