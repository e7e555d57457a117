// Package shop is the system as a test sees it: customers who place orders, waits with a deadline, and what the
// services and the topics say of an order. It knows HTTP, Kafka and Redis, and nothing of what is behind them.
package shop

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/topics"
)

// Wait is how long a test waits for anything: longer than the longest deadline of a saga and its compensations.
const Wait = 2 * time.Minute

// Shop is a running system.
type Shop struct {
	*client.System
	Topics *topics.Client
	Redis  *redis.Client
	// Seed makes the tests' random choices.
	Seed uint64

	run       string
	customers atomic.Int64
}

// Open reads the addresses from the environment, and the seed from SEED if it is set.
func Open() (*Shop, error) {
	addresses, err := client.FromEnv(os.Getenv)
	if err != nil {
		return nil, err
	}
	s := &Shop{Seed: uint64(time.Now().UnixNano()), run: strconv.FormatInt(time.Now().UnixMilli(), 36)}
	if text := os.Getenv("SEED"); text != "" {
		if s.Seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, fmt.Errorf("SEED is %q, must be a number", text)
		}
	}
	if s.System, err = client.New(addresses); err != nil {
		return nil, err
	}
	options, err := redis.ParseURL(addresses.RedisURL)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	s.Redis = redis.NewClient(options)
	s.Topics, err = topics.Open(addresses.Brokers)
	return s, err
}

// Rand makes a test's random choices; its seed stands in the log of a test that fails.
func (s *Shop) Rand(t *testing.T) *rand.Rand {
	t.Helper()
	t.Logf("SEED=%d", s.Seed)
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name())) // a hash takes everything
	return rand.New(rand.NewPCG(s.Seed, h.Sum64()))
}

// NewID returns an id that no run has used.
func (s *Shop) NewID(kind string) string {
	return fmt.Sprintf("%s-%s-%d", kind, s.run, s.customers.Add(1))
}

// Context ends with the test or after Wait.
func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Wait)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until done has no objection.
func Eventually(t *testing.T, done func(ctx context.Context) error) {
	t.Helper()
	require.NoError(t, client.Eventually(Context(t), done))
}

// Customer places orders. Every test has its own.
type Customer struct {
	*Shop
	ID string
	t  *testing.T
}

// Customer returns a new customer.
func (s *Shop) Customer(t *testing.T) *Customer {
	t.Helper()
	return &Customer{Shop: s, ID: s.NewID("cust"), t: t}
}

// Option changes a request.
type Option func(*orderapi.CreateOrderRequest)

// Paying pays with a test token.
func Paying(token string) Option {
	return func(r *orderapi.CreateOrderRequest) { r.PaymentMethod = token }
}

// To ships to a city in a country.
func To(city, country string) Option {
	return func(r *orderapi.CreateOrderRequest) {
		r.ShippingAddress.City, r.ShippingAddress.Country = city, country
	}
}

// Of orders one line instead of the usual.
func Of(quantity int, sku string) Option {
	return func(r *orderapi.CreateOrderRequest) { r.Lines = []orderapi.Line{{SKU: sku, Quantity: quantity}} }
}

// Request is an order that goes through, unless an option is against it.
func (c *Customer) Request(options ...Option) orderapi.CreateOrderRequest {
	r := orderapi.CreateOrderRequest{
		CustomerID: c.ID, Lines: []orderapi.Line{{SKU: "MUG-BLUE", Quantity: 2}, {SKU: "SPOON-SET", Quantity: 1}},
		ShippingAddress: orderapi.Address{Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE"},
		PaymentMethod:   "tok_approved",
	}
	for _, option := range options {
		option(&r)
	}
	return r
}

// Place places an order.
func (c *Customer) Place(options ...Option) orderapi.Order {
	c.t.Helper()
	o, err := c.System.Place(Context(c.t), c.NewID("key"), c.Request(options...))
	require.NoError(c.t, err)
	require.Equal(c.t, orderapi.OrderStatePending, o.State)
	return o
}

// Buy places an order and waits for its end.
func (c *Customer) Buy(options ...Option) orderapi.Order {
	c.t.Helper()
	return c.Await(c.Place(options...).OrderID)
}

// Await waits for an order's end.
func (c *Customer) Await(id string) orderapi.Order {
	c.t.Helper()
	o, err := c.Ended(Context(c.t), id)
	require.NoError(c.t, err)
	return o
}

// Confirmed requires that an order was confirmed.
func Confirmed(t *testing.T, o orderapi.Order) {
	t.Helper()
	require.Equal(t, orderapi.OrderStateConfirmed, o.State, "failure: %s", Failure(o))
	require.Nil(t, o.Failure)
	require.NotNil(t, o.TrackingNumber)
}

// Cancelled requires that an order was cancelled for a reason.
func Cancelled(t *testing.T, o orderapi.Order, code string) {
	t.Helper()
	require.Equal(t, orderapi.OrderStateCancelled, o.State)
	require.NotNil(t, o.Failure)
	require.Equal(t, code, o.Failure.Code, "failure: %s", Failure(o))
	require.Nil(t, o.TrackingNumber)
}

// Failure is why an order failed, for people.
func Failure(o orderapi.Order) string {
	if o.Failure == nil {
		return "none"
	}
	if o.Failure.Detail == nil {
		return o.Failure.Code
	}
	return o.Failure.Code + ": " + *o.Failure.Detail
}

// DeadLetter waits for a service's dead letter that is meant.
func (s *Shop) DeadLetter(t *testing.T, service string, meant func(letters.Letter) bool) letters.Letter {
	t.Helper()
	var found letters.Letter
	Eventually(t, func(ctx context.Context) error {
		all, err := s.Letters(ctx, service, "")
		if err != nil {
			return err
		}
		for _, l := range all {
			if meant(l) {
				found = l
				return nil
			}
		}
		return fmt.Errorf("%s has no such dead letter among its %d", service, len(all))
	})
	return found
}

// About means the dead letters of one order.
func About(orderID string) func(letters.Letter) bool {
	return func(l letters.Letter) bool { return l.Key != nil && *l.Key == orderID }
}

// At means the dead letter of the record at a place.
func At(topic string, partition int32, offset int64) func(letters.Letter) bool {
	id := fmt.Sprintf("%s-%d-%d", topic, partition, offset)
	return func(l letters.Letter) bool { return l.ID == id }
}

// Redriven redrives a dead letter and waits until it has been handled.
func (s *Shop) Redriven(t *testing.T, service, id string) {
	t.Helper()
	by := client.By{Actor: "e2e", Reason: "the cause is gone"}
	_, err := s.Redrive(Context(t), service, id, by)
	require.NoError(t, err)
	Eventually(t, func(ctx context.Context) error {
		l, err := s.Letter(ctx, service, id)
		if err == nil && l.State != letters.StateRedriven {
			err = fmt.Errorf("dead letter %s of %s is %s: %s", id, service, l.State, l.Error)
		}
		return err
	})
}

// Discarded discards a dead letter that a test made.
func (s *Shop) Discarded(t *testing.T, service, id string) {
	t.Helper()
	l, err := s.Discard(Context(t), service, id, client.By{Actor: "e2e", Reason: "put there by a test"})
	require.NoError(t, err)
	require.Equal(t, letters.StateDiscarded, l.State)
}
