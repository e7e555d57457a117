package faults

import (
	"context"
	"errors"
	"slices"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
)

const (
	// endTimeout is how long orders may take to end once all is mended.
	endTimeout = 45 * time.Second
	// round is how often the operator looks, and redrives how often one letter is handed back.
	round, redrives = 300 * time.Millisecond, 5
)

// operate hands dead letters back until ctx ends, as an operator does once the cause is mended: not while an order waits
// for somebody who stays silent. A letter that nothing in the plan explains is handed back too, and named.
func (r *run) operate(ctx context.Context) {
	r.ended(ctx)
	may := map[string][]string{} // services by order
	for _, o := range r.load.orders {
		may[o.id] = o.letters
	}
	tries := map[string]int{}
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, service := range client.Services() {
			open, err := r.system.Letters(ctx, service, string(letters.StateFilterOpen))
			if err != nil {
				continue // asked again, and the audit asks too
			}
			for _, l := range open {
				if l.State == letters.StateRedriving {
					continue
				}
				r.settle(ctx, service, l, r.plan.explains(service) || slices.Contains(may[key(l)], service), tries)
			}
		}
	}
}

func (r *run) settle(ctx context.Context, service string, l letters.Letter, legal bool, tries map[string]int) {
	at := service + " " + l.ID
	if tries[at] == 0 && !legal {
		r.wrong("%s gave up a message that no fault of the plan explains: %s of order %s (%s: %s)", service, l.ID, key(l), l.ErrorType, l.Error)
	}
	if tries[at]++; tries[at] > redrives {
		return // it stays, and the audit names it
	}
	by := client.By{Actor: "operator", Reason: "the cause is mended"}
	if _, err := r.system.Redrive(ctx, service, l.ID, by); err == nil {
		r.result.Redriven++
	}
}

// key is a letter's, empty for none.
func key(l letters.Letter) string {
	if l.Key == nil {
		return ""
	}
	return *l.Key
}

// ended waits until every order has, as long as that may take. The audit names those that do not.
func (r *run) ended(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	_ = client.Eventually(ctx, func(ctx context.Context) error {
		all, err := r.system.AllOrders(ctx, "")
		if err == nil && slices.ContainsFunc(all, func(o orderapi.Order) bool { return !client.Final(o) }) {
			err = errors.New("some have not ended")
		}
		return err
	})
}
