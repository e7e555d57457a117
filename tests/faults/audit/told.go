package audit

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/orderflow/orderflow/api/events"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/feed"
)

// feedKeeps is how many notifications a feed keeps at least (FEED_MAX_ENTRIES).
const feedKeeps = 1000

// told: each order's customer was told of each transition once, and each customer's notifications are numbered 1, 2, 3.
func (c *court) told() (string, []string) {
	var wrong list
	count, kinds := 0, map[string]map[string]int{} // by order
	for customer, all := range sorted(c.Notifications) {
		count += len(all)
		oldest := slices.Clone(all)
		slices.Reverse(oldest)
		for i, n := range oldest {
			if want := feed.Position(int64(i + 1)); n.Position != want {
				wrong.add("notification %s of %s has number %s, must be %s", n.ID, customer, n.Position, want)
			}
			if kinds[n.OrderID] == nil {
				kinds[n.OrderID] = map[string]int{}
			}
			kinds[n.OrderID][n.Kind]++
			if o, is := c.Orders[n.OrderID]; !is {
				wrong.add("notification %s of %s is about order %s, which does not exist", n.ID, customer, n.OrderID)
			} else if o.CustomerID != customer {
				wrong.add("notification %s of %s is about order %s of %s", n.ID, customer, n.OrderID, o.CustomerID)
			}
		}
		if rows := c.NotificationRows[customer]; rows != int64(len(all)) {
			wrong.add("%s has %d notifications over REST, and %d in the table", customer, len(all), rows)
		}
		if last := c.Last[customer]; last != int64(len(all)) {
			wrong.add("%s has %d notifications, and the last number given is %d", customer, len(all), last)
		}
		c.feed(customer, oldest, &wrong)
	}
	for customer := range sorted(c.Feeds) {
		if _, is := c.Notifications[customer]; !is {
			wrong.add("there is a feed of %s, who was told nothing", customer)
		}
	}
	for id, o := range sorted(c.Orders) {
		want := map[string]int{"order_placed": 1}
		switch o.State {
		case orderapi.OrderStateConfirmed:
			want["order_confirmed"] = 1
		case orderapi.OrderStateCancelled:
			want["order_cancelled"] = 1
		}
		if c.Payments[id].Refunded > 0 {
			want["order_refunded"] = 1
		}
		for kind, n := range sorted(kinds[id]) {
			if n != want[kind] {
				wrong.add("order %s: %s was told %d times, must be %d", id, kind, n, want[kind])
			}
			delete(want, kind)
		}
		for kind := range sorted(want) {
			wrong.add("order %s: %s was not told", id, kind)
		}
	}
	return fmt.Sprintf("%d notifications to %d customers", count, len(c.Notifications)), wrong
}

// feed holds a customer's stream against the notifications, the oldest first.
func (c *court) feed(customer string, told []notificationapi.Notification, wrong *list) {
	entries := c.Feeds[customer]
	last := int64(0)
	for _, e := range entries {
		number, ok := feed.ParsePosition(e.Position)
		if !ok || number < 1 || number > int64(len(told)) {
			wrong.add("the feed of %s has entry %s (%s), and the last notification is number %d", customer, e.Position, e.ID, len(told))
			continue
		}
		if number != last+1 && last != 0 && !c.options.RedisLost {
			wrong.add("the feed of %s has a gap between %d and %d", customer, last, number)
		}
		last = number
		var n notificationapi.Notification
		if err := json.Unmarshal([]byte(e.Data), &n); err != nil {
			wrong.add("the feed of %s: entry %s: %s", customer, e.Position, err)
			continue
		}
		want := told[number-1]
		if e.ID != want.ID {
			wrong.add("the feed of %s has %s as entry %s, must be %s", customer, e.ID, e.Position, want.ID)
		}
		n.At, want.At = n.At.UTC(), want.At.UTC()
		if n != want {
			wrong.add("the feed of %s: entry %s says %+v, over REST it is %+v", customer, e.Position, n, want)
		}
	}
	if c.options.RedisLost {
		return
	}
	if last != int64(len(told)) {
		wrong.add("the feed of %s ends at %d, and the last notification is number %d", customer, last, len(told))
	}
	if len(entries) < min(len(told), feedKeeps) {
		wrong.add("the feed of %s has %d entries of %d notifications, must be %d", customer, len(entries), len(told), min(len(told), feedKeeps))
	}
}

// analytics: each order was counted as what it is.
func (c *court) analytics() (string, []string) {
	var wrong list
	want := map[string]Sums{}
	for id, o := range sorted(c.Orders) {
		sums := want[o.CustomerID+" in "+o.Total.Currency]
		sums.Orders++
		switch o.State {
		case orderapi.OrderStateConfirmed:
			sums.Confirmed++
			sums.Spent += o.Total.Amount
		case orderapi.OrderStateCancelled:
			sums.Cancelled++
		}
		want[o.CustomerID+" in "+o.Total.Currency] = sums
		must := Seen{OrderID: id, Customer: o.CustomerID, State: string(o.State), Version: c.OrderRows[id].Version, Total: events.Money(o.Total)}
		if seen := c.Seen[id]; seen != must {
			wrong.add("order %s is %+v to analytics, must be %+v", id, seen, must)
		}
	}
	unknown(c, &wrong, "a row of analytics", c.Seen)
	for who, sums := range sorted(want) {
		if got := c.Customers[who]; got != sums {
			wrong.add("customer %s has %+v to analytics, must be %+v", who, got, sums)
		}
	}
	for who, sums := range sorted(c.Customers) {
		if _, is := want[who]; !is {
			wrong.add("customer %s has %+v to analytics, and no orders", who, sums)
		}
	}
	return fmt.Sprintf("%d orders of %d customers", len(c.Seen), len(c.Customers)), wrong
}
