package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/client"
)

const (
	// crashedService is killed in the middle of the load, and so is crashedBroker where others can take its place.
	crashedService, crashedBroker = "payment", "kafka-2"
	// clients is how many customers order at once.
	clients = 24
	// shops is how many customers there are.
	shops = 20
)

// mixed is an order of the load and what should become of it.
type mixed struct {
	order
	// failures are the reasons that it may be cancelled for; none means that it is confirmed.
	failures []string
	// cancel has the customer cancel it at once, who may come too late.
	cancel bool
}

// mix draws the orders of the load.
func mix(r *rand.Rand, n int) []mixed {
	skus := []string{"COFFEE-1KG", "MUG-BLUE", "TEAPOT-RED", "KETTLE-STEEL", "SPOON-SET", "GRINDER-PRO"}
	all := make([]mixed, n)
	for i := range all {
		m := mixed{order: order{
			customer: fmt.Sprintf("customer-%02d", r.IntN(shops)), sku: skus[r.IntN(len(skus))], quantity: 1 + r.IntN(3),
		}}
		switch kind := r.IntN(100); {
		case kind < 6:
			m.token, m.failures = "tok_declined", []string{"payment_declined"}
		case kind < 10:
			m.token, m.failures = "tok_insufficient_funds", []string{"payment_declined"}
		case kind < 14:
			m.country, m.failures = "AQ", []string{"shipping_refused"}
		case kind < 18:
			m.sku, m.failures = "GLOBE-RARE", []string{"out_of_stock"}
		case kind < 22:
			m.cancel, m.failures = true, []string{"cancelled_by_customer"}
		case kind < 25:
			m.token = "tok_fail_twice"
		case kind < 28:
			m.token = "tok_ambiguous"
		}
		all[i] = m
	}
	return all
}

// load places the mixed orders and kills a service when half of them are placed.
func (s *show) load(ctx context.Context, r *rand.Rand) {
	orders := mix(r, s.cfg.Orders)
	ids := make([]string, len(orders))
	began := time.Now()
	var placed atomic.Int64
	next := make(chan int)
	half, everything := make(chan struct{}), make(chan struct{})
	var customers, operator sync.WaitGroup
	for range clients {
		customers.Go(func() {
			for i := range next {
				ids[i] = s.put(ctx, orders[i])
				if placed.Add(1) == int64((len(orders)+1)/2) {
					close(half)
				}
			}
		})
	}
	victims := s.victims()
	s.report.Crashes = make([]Crash, len(victims))
	for i, name := range victims {
		operator.Go(func() { s.report.Crashes[i] = s.crash(ctx, name, half, everything, &placed) })
	}
	for i := range orders {
		next <- i
	}
	close(next)
	customers.Wait()
	s.report.Load = Load{Orders: len(orders), Placed: time.Since(began).Seconds(), Cancelled: map[string]int{}}
	close(everything)
	operator.Wait()
	s.cfg.Progress("%s is back; waiting for every order to end", strings.Join(victims, " and "))
	s.endings(ctx, orders, ids)
	s.report.Load.Ended = time.Since(began).Seconds()
}

// put places one order, and cancels it if that is its customer's way.
func (s *show) put(ctx context.Context, m mixed) string {
	o, err := s.system.Place(ctx, uuid.NewString(), m.request())
	if err != nil {
		s.fail("load: %s", err)
		return ""
	}
	if m.cancel {
		_, err := s.system.Cancel(ctx, o.OrderID)
		var refused *client.Refused
		if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusConflict) {
			s.fail("load: %s", err)
		}
	}
	return o.OrderID
}

// victims are what is killed in the middle of the load.
func (s *show) victims() []string {
	if slices.Contains(s.stack.Servers(), crashedBroker) {
		return []string{crashedService, crashedBroker}
	}
	return []string{crashedService}
}

// crash kills a service or a server when half of the orders are placed, and starts it again when all are.
func (s *show) crash(ctx context.Context, name string, half, everything <-chan struct{}, placed *atomic.Int64) Crash {
	select {
	case <-half:
	case <-everything: // there was no half to wait for
	}
	c := Crash{Name: name, After: int(placed.Load())}
	down := time.Now()
	if err := s.stack.Kill(name); err != nil {
		s.fail("kill %s: %s", name, err)
		return c
	}
	<-everything
	if err := s.stack.Restart(ctx, name); err != nil {
		s.fail("start %s again: %s", name, err)
		return c
	}
	c.Down, c.OK = time.Since(down).Seconds(), true
	return c
}

// endings waits for every order and holds its end against what it should be.
func (s *show) endings(ctx context.Context, orders []mixed, ids []string) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	final := map[string]orderapi.Order{}
	err := client.Eventually(ctx, func(ctx context.Context) error {
		all, err := s.system.AllOrders(ctx, "")
		if err != nil {
			return err
		}
		clear(final)
		for _, o := range all {
			if client.Final(o) {
				final[o.OrderID] = o
			}
		}
		missing := 0
		for _, id := range ids {
			if _, ok := final[id]; !ok && id != "" {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d orders have not ended", missing, len(ids))
		}
		return nil
	})
	if err != nil {
		s.fail("load: %s", err)
	}
	for i, id := range ids {
		o, ok := final[id]
		if !ok {
			continue
		}
		code := ""
		if o.Failure != nil {
			code = o.Failure.Code
			s.report.Load.Cancelled[code]++
		} else {
			s.report.Load.Confirmed++
		}
		switch {
		case code == "timed_out":
			// A participant was away for longer than a step may take: cancelled is right, and the books will tell.
			s.report.Load.TimedOut++
		case !orders[i].expects(code):
			s.fail("load: order %s (%+v) is %s (%s)", id, orders[i], o.State, code)
		}
	}
}

func (m mixed) expects(code string) bool {
	for _, failure := range m.failures {
		if failure == code {
			return true
		}
	}
	return code == "" && (len(m.failures) == 0 || m.cancel)
}
