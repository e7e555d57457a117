//go:build faults

package audit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

const (
	root     = "../../.."
	orders   = 66
	patience = 2 * time.Minute
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
func start(t *testing.T) (*stack.Stack, audit.Sources) {
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
	return s, audit.Sources{System: system, Brokers: s.Brokers(), RedisURL: s.RedisURL(), Databases: databases}
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

// A system that nothing was done to passes.
func TestSoundSystem(t *testing.T) {
	t.Parallel()
	_, sources := start(t)
	placed := load(t, sources.System)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := audit.Settle(ctx, sources, placed, audit.Options{Books: books.Options{Expected: silent}})
	require.NoError(t, err)
	for _, f := range found.Findings {
		t.Logf("%s: %s", f.Name, f.Says)
	}
	require.NoError(t, found.Err())
}

// silent are the letters of participants that could not answer in time; their orders have gone on without.
func silent(service string, l letters.Letter) bool {
	return l.ErrorType == letters.ErrorTypeTransient && (service == "payment" || service == "shipping")
}
