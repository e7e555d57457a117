//go:build native

package rolling_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/client"
)

const (
	// orderEvery and readEvery are the load: an order, and a request to each service.
	orderEvery = 50 * time.Millisecond
	readEvery  = 100 * time.Millisecond
)

// reads is something to ask of each service.
var reads = map[string]string{
	"order": "/v1/products", "inventory": "/v1/stock/MUG-BLUE", "payment": "/v1/payments/totals", "shipping": "/v1/shipments/totals",
	"notification": "/v1/customers/ada/notifications", "analytics": "/v1/figures",
}

// load is a system's customers: they order and look, at a steady pace, whatever comes back.
type load struct {
	system *client.System
	phase  atomic.Pointer[phase]
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// phase is what happened while something went on.
type phase struct {
	name  string
	began time.Time

	mu       sync.Mutex
	requests int
	placed   []string
	took     []time.Duration
	failures []string
}

// begin starts the load in its first phase.
func begin(t *testing.T, system *client.System, name string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{system: system, stop: cancel}
	l.enter(name)
	each := func(every time.Duration, do func(p *phase)) {
		l.done.Go(func() {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					p := l.phase.Load()
					l.done.Go(func() { do(p) })
				}
			}
		})
	}
	each(orderEvery, l.order)
	for service, path := range reads {
		each(readEvery, func(p *phase) { l.read(p, service, path) })
	}
	t.Cleanup(l.end)
	return l
}

// enter counts what begins from now on as another phase's.
func (l *load) enter(name string) *phase {
	p := &phase{name: name, began: time.Now()}
	l.phase.Store(p)
	return p
}

// end stops the load and waits for what is under way.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

func (l *load) order(p *phase) {
	began := time.Now()
	o, err := l.system.Place(context.Background(), uuid.NewString(), orderapi.CreateOrderRequest{
		CustomerID: "ada", PaymentMethod: "tok_approved", Lines: []orderapi.Line{{SKU: "MUG-BLUE", Quantity: 1}},
		ShippingAddress: orderapi.Address{Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE"},
	})
	l.note(p, time.Since(began), err, o.OrderID)
}

func (l *load) read(p *phase, service, path string) {
	began := time.Now()
	status, body, err := l.system.Get(context.Background(), service, path)
	if err == nil && status != 200 {
		err = fmt.Errorf("GET %s of %s: %d %s", path, service, status, body)
	}
	l.note(p, time.Since(began), err, "")
}

// note counts a request to the phase in which it began, and a failure to the one in which it failed.
func (l *load) note(p *phase, took time.Duration, err error, id string) {
	if err != nil {
		now := l.phase.Load()
		now.mu.Lock()
		now.failures = append(now.failures, err.Error())
		now.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	p.took = append(p.took, took)
	if err == nil && id != "" {
		p.placed = append(p.placed, id)
	}
}

// orders is how many were placed so far.
func (p *phase) orders() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.placed)
}

// figures is a line for people. ends are how long each order took, by its id.
func (p *phase) figures(ends map[string]time.Duration, until time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ended []time.Duration
	for _, id := range p.placed {
		ended = append(ended, ends[id])
	}
	return fmt.Sprintf("%-33s %5.1f s  %5d requests  %3d failed  p50 %s  p99 %s  max %s   %4d orders, to their end p50 %s  p99 %s  max %s",
		p.name, until.Sub(p.began).Seconds(), p.requests, len(p.failures), of(p.took, .5), of(p.took, .99), of(p.took, 1),
		len(p.placed), of(ended, .5), of(ended, .99), of(ended, 1))
}

// of is a quantile.
func of(all []time.Duration, q float64) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return fmt.Sprintf("%4d ms", all[min(int(q*float64(len(all))), len(all)-1)].Milliseconds())
}
