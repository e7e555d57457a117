package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/rivals/orchestrator"
)

// Bounds of a load.
const (
	// maxOrders is how many orders a benchmark places in all: the books read every one of them.
	maxOrders = 1_000_000
	// maxOpen is how many orders of an open load may be under way before the next one waits; it is late then, and its
	// latency says so.
	maxOpen = 20_000
	// requestTimeout is for one request, endTimeout for an order that was taken to end.
	requestTimeout, endTimeout = 30 * time.Second, 60 * time.Second
	// customers is how many customers the orders are of.
	customers = 200
	// An accepting load ends after acceptWarmup and acceptWindow, or maxAccepted orders; then acceptTimeout is for all of
	// them to end.
	acceptWarmup, acceptWindow, acceptTimeout = time.Second, 4 * time.Second, 5 * time.Minute
	maxAccepted                               = 20_000
	// A refused order of a closed load makes room for the next after what Retry-After asks for, within these bounds.
	minRefusedWait, maxRefusedWait = 50 * time.Millisecond, time.Second
)

// shop places orders.
type shop struct {
	orders *orderapi.ClientWithResponses
	// ends are of the orders that were accepted; nil for a system that answers with the end.
	ends *tracker
	// still calls during while these services stand still. They go on afterwards, whatever failed.
	still func(services []string, during func() error) error
	seed  uint64
	skus  []string
	// placed numbers the orders of all loads.
	placed atomic.Uint64
}

// newShop places orders at a URL, and keeps a connection for every order that is under way until it is closed.
func newShop(url string, seed uint64) (s *shop, closeIdle func(), err error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, maxOpen
	s = &shop{ends: newTracker(), seed: seed}
	s.orders, err = orderapi.NewClientWithResponses(url, orderapi.WithHTTPClient(&http.Client{Transport: t, Timeout: requestTimeout}))
	return s, t.CloseIdleConnections, err
}

// request is the n-th order and whether its payment goes through: one of ten is declined. A seed always makes the same.
func (s *shop) request(n uint64) (r orderapi.CreateOrderRequest, pays bool) {
	random := rand.New(rand.NewPCG(s.seed, n))
	r = orderapi.CreateOrderRequest{
		CustomerID: fmt.Sprintf("bench-%03d", n%customers), PaymentMethod: "tok_approved",
		Lines: []orderapi.Line{{SKU: s.skus[random.IntN(len(s.skus))], Quantity: 1}},
		ShippingAddress: orderapi.Address{
			Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE",
		},
	}
	if random.IntN(10) == 0 {
		r.PaymentMethod = "tok_declined"
		return r, false
	}
	return r, true
}

// tally is what came of a load.
type tally struct {
	// from and to bound the window.
	from, to time.Time

	mu               sync.Mutex
	accept, endToEnd []time.Duration
	ended            int // within the window
	refused, errors  int
	firstError       error
	confirmed        int // of the whole load, as what follows
	cancelled        int
	astray           []string
	full             bool
	// accepting says that ends are not waited for; the orders are collected instead.
	accepting bool
	accepted  []accepted
}

// accepted is an order whose end comes later.
type accepted struct {
	id            string
	due, answered time.Time
	pays          bool
}

// in tells whether an instant is in the window.
func (t *tally) in(at time.Time) bool { return !at.Before(t.from) && at.Before(t.to) }

// one places an order that was due at an instant and waits for its end. It returns how long its place should stay empty.
func (s *shop) one(ctx context.Context, t *tally, due time.Time) (pause time.Duration) {
	n := s.placed.Add(1)
	if n > maxOrders {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.full = true
		return maxRefusedWait
	}
	request, pays := s.request(n)
	key := fmt.Sprintf("bench-%016x-%d", s.seed, n)
	answer, err := s.orders.CreateOrderWithResponse(ctx, &orderapi.CreateOrderParams{IdempotencyKey: key}, request)
	answered := time.Now()
	if err == nil && s.ends == nil && answer.StatusCode() == http.StatusOK {
		t.endedAtOnce(due, answered, answer.Body, pays)
		return 0
	}
	if err != nil || s.ends == nil || answer.JSON202 == nil {
		return t.refuse(ctx, due, answer, err)
	}
	order := accepted{answer.JSON202.OrderID, due, answered, pays}
	if t.accepting {
		t.accept202(order)
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	s.await(ctx, t, order, endTimeout)
	return 0
}

// await waits for an order's end until ctx ends, which it does after a time.
func (s *shop) await(ctx context.Context, t *tally, order accepted, after time.Duration) {
	ch, forget := s.ends.await(order.id)
	defer forget()
	select {
	case e := <-ch:
		t.end(order, e)
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		t.astray = append(t.astray, fmt.Sprintf("order %s had not ended after %s", order.id, after))
	}
}

// endedAtOnce books an order whose end was the answer.
func (t *tally) endedAtOnce(due, answered time.Time, body []byte, pays bool) {
	var order orchestrator.Order
	err := json.Unmarshal(body, &order)
	if err == nil && order.State != orchestrator.Confirmed && order.State != orchestrator.Cancelled {
		err = fmt.Errorf("the state is %q", order.State)
	}
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.astray = append(t.astray, fmt.Sprintf("an answer is not an order that has ended: %v", err))
		return
	}
	t.end(accepted{order.ID, due, answered, pays}, end{at: answered, confirmed: order.State == orchestrator.Confirmed})
}

// accept202 collects an order. With the last one that a load may have, its window is over.
func (t *tally) accept202(order accepted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in(order.answered) {
		t.ended++
	}
	if t.in(order.due) {
		t.accept = append(t.accept, order.answered.Sub(order.due))
	}
	if t.accepted = append(t.accepted, order); len(t.accepted) == maxAccepted && order.answered.Before(t.to) {
		t.to = order.answered
	}
}

// over tells whether the window is.
func (t *tally) over(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(t.to)
}

func (t *tally) end(order accepted, e end) {
	id, due, answered, pays := order.id, order.due, order.answered, order.pays
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.confirmed {
		t.confirmed++
	} else {
		t.cancelled++
	}
	switch {
	case pays && !e.confirmed:
		t.astray = append(t.astray, fmt.Sprintf("order %s was cancelled although its payment goes through", id))
	case !pays && e.confirmed:
		t.astray = append(t.astray, fmt.Sprintf("order %s was confirmed although its payment is declined", id))
	}
	if t.in(due) {
		t.endToEnd = append(t.endToEnd, e.at.Sub(due))
	}
	if t.accepting {
		return // the rest was counted with the answer
	}
	if t.in(e.at) {
		t.ended++
	}
	if t.in(due) {
		t.accept = append(t.accept, answered.Sub(due))
	}
}

// refuse counts an order that was not taken.
func (t *tally) refuse(ctx context.Context, due time.Time, answer *orderapi.CreateOrderResponse, err error) (pause time.Duration) {
	if ctx.Err() != nil {
		return 0
	}
	pause = minRefusedWait
	t.mu.Lock()
	defer t.mu.Unlock()
	refused := err == nil && (answer.StatusCode() == http.StatusTooManyRequests || answer.StatusCode() == http.StatusServiceUnavailable)
	if refused {
		if seconds, parsed := strconv.Atoi(answer.HTTPResponse.Header.Get("Retry-After")); parsed == nil {
			pause = min(max(time.Duration(seconds)*time.Second, minRefusedWait), maxRefusedWait)
		}
	}
	switch {
	case !t.in(due):
	case refused:
		t.refused++
	default:
		t.errors++
		if err == nil {
			err = fmt.Errorf("%s: %.200s", answer.Status(), answer.Body)
		}
		if t.firstError == nil {
			t.firstError = err
		}
	}
	return pause
}

// closed keeps n orders in flight until the window is over, and returns when all have ended.
func (s *shop) closed(ctx context.Context, t *tally, n int) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for now := time.Now(); !t.over(now) && ctx.Err() == nil; now = time.Now() {
				wait(ctx, s.one(ctx, t, now))
			}
		})
	}
	wg.Wait()
}

// accept has n connections place orders, each the next when it was answered, until the window is over, and returns when
// all orders have ended. While they are placed, nothing else is done with them.
func (s *shop) accept(ctx context.Context, t *tally, n int) error {
	t.accepting = true
	if err := s.still(allBut("order"), func() error { s.closed(ctx, t, n); return nil }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	for _, order := range t.accepted {
		s.await(ctx, t, order, acceptTimeout)
	}
	return nil
}

// open places orders at fixed instants until the window is over, and returns when all have ended.
func (s *shop) open(ctx context.Context, t *tally, start time.Time, rate float64) {
	var wg sync.WaitGroup
	places := make(chan struct{}, maxOpen)
	for n := 0; ; n++ {
		due := dueAt(start, rate, n)
		if !due.Before(t.to) || !wait(ctx, time.Until(due)) {
			break
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			s.one(ctx, t, due)
		})
	}
	wg.Wait()
}

// dueAt is the instant of the n-th order, from 0, at so many a second.
func dueAt(start time.Time, rate float64, n int) time.Time {
	return start.Add(time.Duration(float64(n) / rate * float64(time.Second)))
}

// wait returns false when ctx ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// wrong names what makes figures of the load worthless.
func (t *tally) wrong() []string {
	all := t.astray
	if len(all) > 5 {
		all = append(all[:5:5], fmt.Sprintf("and %d more", len(t.astray)-5))
	}
	if t.full {
		all = append(all, fmt.Sprintf("more than %d orders: choose shorter durations", maxOrders))
	}
	if t.ended == 0 && len(all) == 0 {
		all = append(all, errors.Join(errors.New("no order ended in the window"), t.firstError).Error())
	}
	return all
}
