//go:build faults

package audit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/database"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
	"github.com/orderflow/orderflow/tools/topics"
)

const (
	root     = "../../.."
	orders   = 66
	patience = 4 * time.Minute
)

// kind is a way that an order can go.
type kind struct {
	token, city, country, sku string
	cancel                    bool
}

var kinds = []kind{
	{}, {token: "tok_declined"}, {country: "AQ"}, {sku: "GLOBE-RARE"}, {token: "tok_slow", cancel: true}, {cancel: true},
	{token: "tok_fail_twice"}, {token: "tok_ambiguous"}, {city: "Flakytown"}, {token: "tok_timeout"}, {city: "Failville"},
}

// start starts an embedded stack, and returns it as the audit wants it.
func start(t *testing.T) audit.Sources {
	t.Helper()
	s, err := stack.Start(t.Context(), stack.Options{Bin: filepath.Join(root, "bin"), Dir: t.TempDir(), Env: map[string][]string{
		"":         {"LOG_LEVEL=warn", "CONSUMER_BACKOFF_INITIAL=10ms", "CONSUMER_BACKOFF_MAX=50ms"},
		"order":    {"SAGA_STEP_DEADLINE=3s", "SAGA_UNDO_DEADLINE=4s", "SAGA_TIMER_POLL=50ms"},
		"payment":  {"PAYMENT_PROVIDER_TIMEOUT=300ms", "PAYMENT_SANDBOX_SLOW=200ms"},
		"shipping": {"CARRIER_TIMEOUT=300ms"},
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.WithoutCancel(t.Context()))) })
	addresses := client.Addresses{URLs: map[string]string{}, Brokers: s.Brokers(), RedisURL: s.RedisURL()}
	databases := map[string]string{}
	for _, service := range client.Services() {
		addresses.URLs[service], databases[service] = s.URL(service), s.DatabaseURL(service)
	}
	system, err := client.New(addresses)
	require.NoError(t, err)
	t.Cleanup(system.Close)
	return audit.Sources{System: system, Brokers: s.Brokers(), RedisURL: s.RedisURL(), Databases: databases}
}

// load places orders of every kind, some of them twice under one key, and cancels those that are to be.
func load(t *testing.T, system *client.System) []audit.Placed {
	t.Helper()
	var mu sync.Mutex
	var placed []audit.Placed
	var all sync.WaitGroup
	for i := range orders {
		all.Go(func() {
			k := kinds[i%len(kinds)]
			request := orderapi.CreateOrderRequest{
				CustomerID: fmt.Sprintf("customer-%d", i%7), PaymentMethod: or(k.token, "tok_approved"),
				Lines: []orderapi.Line{{SKU: or(k.sku, "MUG-BLUE"), Quantity: 1 + i%3}},
				ShippingAddress: orderapi.Address{
					Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: or(k.city, "Berlin"), Country: or(k.country, "DE"),
				},
			}
			key := uuid.NewString()
			for range 1 + i%2 {
				p := audit.Placed{Key: key, Customer: request.CustomerID, RequestID: uuid.NewString()}
				answer, err := system.Orders.CreateOrderWithResponse(t.Context(), &orderapi.CreateOrderParams{IdempotencyKey: key}, request,
					func(_ context.Context, r *http.Request) error { r.Header.Set("X-Request-Id", p.RequestID); return nil })
				if err == nil {
					p.Status = answer.StatusCode()
				}
				if answer != nil && answer.JSON202 != nil {
					p.OrderID = answer.JSON202.OrderID
				}
				mu.Lock()
				placed = append(placed, p)
				mu.Unlock()
				var refused *client.Refused
				if !k.cancel {
					continue
				}
				if _, err := system.Cancel(t.Context(), p.OrderID); err != nil && !(errors.As(err, &refused) && refused.Status == http.StatusConflict) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	return placed
}

func or(value, usual string) string {
	if value == "" {
		return usual
	}
	return value
}

// A system that nothing was done to passes. What is then done to its databases, its Redis and its topics is named.
func TestSystem(t *testing.T) {
	t.Parallel()
	sources := start(t)
	placed := load(t, sources.System)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	options := audit.Options{Books: books.Options{Expected: silent}}
	found, err := audit.Settle(ctx, sources, placed, options)
	require.NoError(t, err)
	for _, f := range found.Findings {
		t.Logf("%s: %s", f.Name, f.Says)
	}
	require.NoError(t, found.Err())

	exec := func(service, statement string, args ...any) {
		db, err := database.Open(ctx, sources.Databases[service])
		require.NoError(t, err)
		_, err = db.ExecContext(ctx, statement, args...)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	// names waits until one finding is wrong, in sentences that have these words, and no other is.
	names := func(finding string, says ...string) {
		t.Helper()
		require.NoError(t, client.Eventually(ctx, func(ctx context.Context) error {
			found, err := audit.Check(ctx, sources, placed, options)
			if err != nil {
				return err
			}
			for _, f := range found.Findings {
				if f.Name != finding && !f.OK {
					return found.Err()
				}
				if f.Name == finding && !slices.EqualFunc(f.Wrong, says, strings.Contains) {
					return fmt.Errorf("%s: %q, must say %q", f.Name, f.Wrong, says)
				}
			}
			return nil
		}))
	}
	confirmed, err := sources.System.AllOrders(ctx, "")
	require.NoError(t, err)
	confirmed = slices.DeleteFunc(confirmed, func(o orderapi.Order) bool { return o.State != orderapi.OrderStateConfirmed })
	slices.SortFunc(confirmed, func(a, b orderapi.Order) int { return strings.Compare(a.OrderID, b.OrderID) })
	require.Greater(t, len(confirmed), 1)
	one, other := confirmed[0], confirmed[1]

	const charge = `UPDATE sandbox_charges SET amount = amount + $1 WHERE key = $2`
	exec("payment", charge, 100, "charge-"+one.OrderID)
	exec("payment", charge, -100, "charge-"+other.OrderID)
	names(audit.FindingParticipants, "order "+one.OrderID+" is confirmed: what the provider charged is", "order "+other.OrderID+" is confirmed: what the provider charged is")
	exec("payment", charge, -100, "charge-"+one.OrderID)
	exec("payment", charge, 100, "charge-"+other.OrderID)

	exec("order", `UPDATE sagas SET next_deadline = created_at WHERE id = $1`, one.OrderID)
	names(audit.FindingSagas, "saga "+one.OrderID+" has a deadline left: ")
	exec("order", `UPDATE sagas SET next_deadline = NULL WHERE id = $1`, one.OrderID)

	exec("order", `INSERT INTO inbox (consumer, message_id, handled_at) VALUES ('order', 'planted', $1)`, time.Now().UTC())
	names(audit.FindingHandled, "order has marked message planted, which stands in none of its topics")
	exec("order", `DELETE FROM inbox WHERE message_id = 'planted'`)

	exec("analytics", `UPDATE orders SET version = 9 WHERE id = $1`, one.OrderID)
	names(audit.FindingAnalytics, "order "+one.OrderID+" is ")
	exec("analytics", `UPDATE orders SET version = 2 WHERE id = $1`, one.OrderID)

	at, err := redis.ParseURL(sources.RedisURL)
	require.NoError(t, err)
	rdb := redis.NewClient(at)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.NoError(t, rdb.XDel(ctx, "notifications:"+one.CustomerID, "2-0").Err())
	names(audit.FindingTold, "the feed of "+one.CustomerID+" has a gap between 1 and 3", "the feed of "+one.CustomerID+" has ")
	options.RedisLost = true
	names(audit.FindingTold)

	kafka, err := topics.Open(sources.Brokers)
	require.NoError(t, err)
	defer func() { require.NoError(t, kafka.Close()) }()
	story, err := kafka.Story(ctx, one.OrderID)
	require.NoError(t, err)
	again := story[len(story)-1].Record
	_, err = kafka.Send(again)
	require.NoError(t, err)
	names(audit.FindingMessages) // a message may come again
	again.Value = append(again.Value, ' ')
	_, err = kafka.Send(again)
	require.NoError(t, err)
	names(audit.FindingMessages, "too, with another value: ")
}

// silent are the letters of participants that could not answer in time; their orders have gone on without.
func silent(service string, l letters.Letter) bool {
	return l.ErrorType == letters.ErrorTypeTransient && (service == "payment" || service == "shipping")
}
