package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tools/client"
)

const (
	// customers is how many there are, and clerks how many requests they have under way at most.
	customers, clerks = 20, 48
	// attempt is how long a customer waits for one answer, and patience for any.
	attempt, patience = 5 * time.Second, 90 * time.Second
	// firstWait and longestWait are what they wait before they ask again.
	firstWait, longestWait = 50 * time.Millisecond, 800 * time.Millisecond
)

// story is a kind of order and what may become of it.
type story struct {
	// of a hundred orders are of this kind.
	of                        int
	token, sku, city, country string
	// ends are the reasons for which it may be cancelled; "" means that it may be confirmed.
	ends []string
	// cancel has the customer cancel it at once, and maybe come too late.
	cancel bool
	// impatient has the customer ask once and never again.
	impatient bool
	// twice has the customer send the same request twice at the same time.
	twice bool
	// letters are the services that may give up on it, and be asked again by an operator.
	letters []string
}

// timedOut may become of every order: somebody was away for longer than a step may take.
const timedOut = "timed_out"

var (
	confirmed = []string{""}
	declined  = []string{"payment_declined"}
	noStock   = []string{"out_of_stock"}
	refused   = []string{"shipping_refused"}
	called    = []string{"", "cancelled_by_customer"}

	stories = []story{
		{of: 46, ends: confirmed},
		{of: 5, ends: confirmed, impatient: true},
		{of: 5, ends: confirmed, twice: true},
		{of: 6, token: "tok_declined", ends: declined},
		{of: 4, token: "tok_insufficient_funds", ends: declined},
		{of: 4, sku: "GLOBE-RARE", ends: noStock},
		{of: 4, sku: "LAMP-LIMITED", ends: []string{"", "out_of_stock"}},
		{of: 5, country: "AQ", ends: refused},
		{of: 5, cancel: true, ends: called},
		{of: 3, cancel: true, token: "tok_slow", ends: called},
		{of: 2, token: "tok_slow", ends: confirmed},
		{of: 3, token: "tok_fail_twice", ends: confirmed},
		{of: 3, token: "tok_ambiguous", ends: confirmed},
		{of: 3, city: "Flakytown", ends: confirmed},
		{of: 1, token: "tok_timeout", letters: []string{"payment"}},
		{of: 1, city: "Failville", letters: []string{"shipping"}},
	}
	goods = []string{"COFFEE-1KG", "MUG-BLUE", "TEAPOT-RED", "KETTLE-STEEL", "SPOON-SET", "GRINDER-PRO"}
)

// order is one that a customer places, and what came of it.
type order struct {
	story
	key     string
	request orderapi.CreateOrderRequest

	// id is what was answered.
	id string
	// posts are all that were sent of it.
	posts []audit.Placed
}

// draw makes the orders of a plan.
func draw(p Plan) []*order {
	r := rand.New(rand.NewPCG(p.Seed, 2))
	all := make([]*order, p.Orders)
	for i := range all {
		s := pick(r)
		if p.Provider && len(s.ends) == 0 {
			s.ends = confirmed // it is the sandboxes that are silent
		}
		or := func(value, usual string) string {
			if value == "" {
				return usual
			}
			return value
		}
		all[i] = &order{story: s, key: fmt.Sprintf("seed-%d-order-%d", p.Seed, i), request: orderapi.CreateOrderRequest{
			CustomerID: fmt.Sprintf("customer-%02d", r.IntN(customers)), PaymentMethod: or(s.token, "tok_approved"),
			Lines: []orderapi.Line{{SKU: or(s.sku, goods[r.IntN(len(goods))]), Quantity: 1 + r.IntN(3)}},
			ShippingAddress: orderapi.Address{
				Name: "Ada Lovelace", Street: "Musterstrasse 1", PostalCode: "10115", City: or(s.city, "Berlin"), Country: or(s.country, "DE"),
			},
		}}
	}
	return all
}

func pick(r *rand.Rand) story {
	at := r.IntN(100)
	for _, s := range stories {
		if at -= s.of; at < 0 {
			return s
		}
	}
	panic("the stories are less than a hundred")
}

// may tells whether the order may have been cancelled for a reason, or confirmed for none.
func (o *order) may(reason string) bool { return reason == timedOut || slices.Contains(o.ends, reason) }

// load has the orders placed.
type load struct {
	orders []*order
	// shops are the replicas of the order service.
	shops []*client.System
	wrong func(format string, args ...any)

	mu   sync.Mutex
	done int
	// marks[n] is closed when n orders are placed.
	marks []chan struct{}
	// turn is whose turn it is of the shops.
	turn atomic.Int64
}

func newLoad(p Plan, shops []*client.System, wrong func(string, ...any)) *load {
	l := &load{orders: draw(p), shops: shops, wrong: wrong}
	l.marks = make([]chan struct{}, p.Orders+1)
	for i := range l.marks {
		l.marks[i] = make(chan struct{})
	}
	close(l.marks[0])
	return l
}

// placed is closed when n orders are, or all.
func (l *load) placed(n int) <-chan struct{} { return l.marks[min(n, len(l.orders))] }

// posts are all that were sent.
func (l *load) posts() (all []audit.Placed) {
	for _, o := range l.orders {
		all = append(all, o.posts...)
	}
	return all
}

// soFar is how many are.
func (l *load) soFar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// run has all orders placed, so many a second as long as there are answers.
func (l *load) run(ctx context.Context, rate int) {
	next := make(chan *order)
	var working sync.WaitGroup
	for range clerks {
		working.Go(func() {
			for o := range next {
				l.place(ctx, o)
				l.mu.Lock()
				l.done++
				close(l.marks[l.done])
				l.mu.Unlock()
			}
		})
	}
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	for _, o := range l.orders {
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
		next <- o
	}
	close(next)
	working.Wait()
}

// place has a customer place an order, and do with it what its story says.
func (l *load) place(ctx context.Context, o *order) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if o.impatient {
		_ = l.ask(ctx, o)
		return
	}
	var twin sync.WaitGroup
	other := *o
	if o.twice {
		twin.Go(func() { l.insist(ctx, &other) })
	}
	l.insist(ctx, o)
	twin.Wait()
	if o.twice {
		o.posts = append(o.posts, other.posts...)
	}
	if o.cancel && o.id != "" {
		l.cancel(ctx, o)
	}
}

// insist asks until there is an answer, always under the same key.
func (l *load) insist(ctx context.Context, o *order) {
	if err := l.again(ctx, func() error { return l.ask(ctx, o) }); err != nil {
		l.wrong("order %s was not taken: %s", o.key, err)
	}
}

// ask sends an order once.
func (l *load) ask(ctx context.Context, o *order) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	placed, err := l.shop().Place(ctx, o.key, o.request)
	o.posts = append(o.posts, audit.Placed{Key: o.key, Customer: o.request.CustomerID, OrderID: placed.OrderID, Status: statusOf(err)})
	if err == nil {
		o.id = placed.OrderID
	}
	return err
}

// cancel has the customer call the order off, which may be too late.
func (l *load) cancel(ctx context.Context, o *order) {
	err := l.again(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		_, err := l.shop().Cancel(ctx, o.id)
		if statusOf(err) == http.StatusConflict {
			return nil
		}
		return err
	})
	if err != nil {
		l.wrong("order %s could not be cancelled: %s", o.id, err)
	}
}

// again asks until there is an answer that is not "later".
func (l *load) again(ctx context.Context, ask func() error) error {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := ask()
		if !slices.Contains([]int{0, http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable}, statusOf(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

// shop is a replica of the order service, another one each time.
func (l *load) shop() *client.System {
	return l.shops[int(l.turn.Add(1))%len(l.shops)]
}

// statusOf is that of an answer, 0 of none.
func statusOf(err error) int {
	if err == nil {
		return http.StatusAccepted
	}
	var refusal *client.Refused
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}
