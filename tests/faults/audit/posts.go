package audit

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/orderflow/orderflow/tools/client"
)

// posts: a 202 is an order, an order is of a POST, and one key made one order.
func (c *court) posts() (string, []string) {
	var wrong list
	attempts, accepted := map[string][]Placed{}, 0
	promised := map[string]map[string]bool{} // the orders that 202s named, by key
	for _, p := range c.Placed {
		attempts[p.Key] = append(attempts[p.Key], p)
		if p.Status != http.StatusAccepted {
			continue
		}
		accepted++
		if promised[p.Key] == nil {
			promised[p.Key] = map[string]bool{}
		}
		promised[p.Key][p.OrderID] = true
		o, is := c.Orders[p.OrderID]
		switch {
		case !is:
			wrong.add("order %q was answered with 202 (key %s) and does not exist", p.OrderID, p.Key)
		case p.Customer != "" && o.CustomerID != p.Customer:
			wrong.add("order %s was placed by %s (key %s) and is of %s", p.OrderID, p.Customer, p.Key, o.CustomerID)
		case !client.Final(o):
			wrong.add("order %s was answered with 202 (key %s) and is %s", p.OrderID, p.Key, o.State)
		}
	}
	for key, ids := range sorted(promised) {
		if len(ids) > 1 {
			wrong.add("key %s was answered with %d orders: %s", key, len(ids), names(ids))
		}
	}

	keyOf := map[string]string{}
	for _, a := range c.Answers {
		if a.OrderID == "" {
			continue
		}
		if other, twice := keyOf[a.OrderID]; twice {
			wrong.add("order %s is kept as the answer to two keys: %s and %s", a.OrderID, other, a.Key)
		}
		keyOf[a.OrderID] = a.Key
		if _, is := c.Orders[a.OrderID]; !is {
			wrong.add("order %s is kept as the answer to key %s and does not exist", a.OrderID, a.Key)
		}
		if ids := promised[a.Key]; len(ids) > 0 && !ids[a.OrderID] {
			wrong.add("key %s was answered with order %s, and order %s is kept for it", a.Key, names(ids), a.OrderID)
		}
	}
	unanswered := 0
	for id := range sorted(c.Orders) {
		key, kept := keyOf[id]
		tries := attempts[key]
		switch {
		case !kept:
			wrong.add("order %s is the answer to no Idempotency-Key", id)
		case promised[key][id]:
		case len(tries) == 0:
			wrong.add("order %s is of key %s, which nobody sent", id, key)
		case slices.ContainsFunc(tries, c.open202):
			unanswered++
		default:
			wrong.add("order %s is of key %s, which was answered with %d", id, key, tries[len(tries)-1].Status)
		}
	}
	return fmt.Sprintf("%d POSTs, %d answered with 202; %d orders, %d of them without an answer", len(c.Placed), accepted, len(c.Orders), unanswered), wrong
}

// open202 tells whether an answer, or that there was none, leaves open whether an order was placed.
func (c *court) open202(p Placed) bool {
	return p.Status == 0 || slices.Contains(c.options.Ambiguous, p.Status)
}
