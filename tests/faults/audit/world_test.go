package audit_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// world plays orders with the saga's own decisions, and notes down what an audit would see of them.
type world struct {
	t       *testing.T
	plan    *saga.Definition
	now     time.Time
	records map[string][]evidence.Record // by topic
	e       audit.Evidence
}

const (
	customer = "ada"
	price    = 2500
)

var total = events.Money{Amount: price, Currency: "EUR"}

// way is how an order goes: what each participant makes of it, and what else happens. The zero value is confirmed.
type way struct {
	stock, payment, parcel saga.Outcome // Done if empty
	// silent is a step whose answer comes when its deadline has passed.
	silent string
	// cancelled is a step that the customer cancels while it is done.
	cancelled string
	// twice is a step whose undo is asked for a second time before it is answered.
	twice string
}

// newWorld has played an order of each way.
func newWorld(t *testing.T) *world {
	t.Helper()
	const day = 24 * time.Hour
	step := func(name string) saga.Step {
		return saga.Step{Name: name, Deadline: time.Minute, UndoDeadline: time.Minute, MaxUndoAttempts: 3}
	}
	plan, err := saga.NewDefinition("order", 1, step("reserve_stock"), step("charge_payment"), step("arrange_shipping"))
	require.NoError(t, err)
	w := &world{t: t, plan: plan, now: time.Unix(0, 0).UTC().Add(20000 * day), records: map[string][]evidence.Record{}, e: audit.Evidence{
		Books: books.Audit{OK: true}, Orders: map[string]orderapi.Order{}, OrderRows: map[string]audit.OrderRow{}, Sagas: map[string]evidence.Saga{},
		Reservations: map[string]audit.Reservation{}, Payments: map[string]audit.Payment{}, Charges: map[string]audit.Charge{},
		Shipments: map[string]audit.Shipment{}, Parcels: map[string]audit.Parcel{},
		Notifications: map[string][]notificationapi.Notification{}, NotificationRows: map[string]int64{}, Last: map[string]int64{},
		Feeds: map[string][]audit.Entry{}, Seen: map[string]audit.Seen{}, Customers: map[string]audit.Sums{},
		Tables: map[string]evidence.Tables{}, Letters: map[string][]letters.Letter{},
	}}
	w.order("confirmed", way{})
	w.order("out-of-stock", way{stock: saga.Failed})
	w.order("declined", way{payment: saga.Failed})
	w.order("refused", way{parcel: saga.Failed})
	w.order("silent", way{silent: "charge_payment"})
	w.order("called-off", way{cancelled: "arrange_shipping"})
	w.order("asked-twice", way{payment: saga.Failed, twice: "reserve_stock"})
	w.e.Placed = append(w.e.Placed, audit.Placed{Key: "key-unprocessable", Status: http.StatusUnprocessableEntity, Customer: customer})
	w.e.Answers = append(w.e.Answers, audit.Answer{Key: "key-unprocessable", Status: http.StatusUnprocessableEntity})
	return w
}

// say puts a message onto its topic and into the inboxes of those who receive it.
func (w *world) say(source, key, cause string, body event.Body) event.Event {
	w.t.Helper()
	data, err := json.Marshal(body)
	require.NoError(w.t, err)
	topic := body.EventTopic()
	w.now = w.now.Add(time.Millisecond)
	e := event.Event{
		ID: fmt.Sprintf("m-%d", w.count()), Type: body.EventType(), Source: "/orderflow/" + source, Subject: key, Key: key,
		Time: w.now, CorrelationID: key, CausationID: cause, Data: data,
	}
	w.put(topic, e)
	for _, service := range client.Services() {
		if slices.ContainsFunc(events.Received(service), func(t events.Topic) bool { return t.Name == topic }) {
			tables := w.e.Tables[service]
			tables.Inbox = append(tables.Inbox, evidence.Mark{Consumer: service, MessageID: e.ID})
			w.e.Tables[service] = tables
		}
	}
	return e
}

func (w *world) count() (n int) {
	for _, all := range w.records {
		n += len(all)
	}
	return n
}

func (w *world) put(topic string, e event.Event) {
	w.records[topic] = append(w.records[topic], evidence.NewRecord(kafka.Record{
		Topic: topic, Offset: int64(len(w.records[topic])), Timestamp: w.now, Key: []byte(e.Key), Value: e.Data, Headers: e.Headers(),
	}))
}

// order plays an order to its end.
func (w *world) order(id string, goes way) {
	lines := []events.Line{{SKU: "MUG-BLUE", Quantity: 2}}
	o := orderapi.Order{
		OrderID: id, CustomerID: customer, Total: orderapi.Money(total), State: orderapi.OrderStatePending,
		Lines: []orderapi.OrderLine{{SKU: "MUG-BLUE", Quantity: 2}},
	}
	request := "request-" + id
	w.e.Placed = append(w.e.Placed, audit.Placed{Key: "key-" + id, Status: http.StatusAccepted, OrderID: id, Customer: customer, RequestID: request})
	w.e.Answers = append(w.e.Answers, audit.Answer{Key: "key-" + id, Status: http.StatusAccepted, OrderID: id})
	address := events.Address{Name: "Ada", Street: "Musterstrasse 1", PostalCode: "10115", City: "Berlin", Country: "DE"}
	w.say("order", id, request, events.OrderCreated{
		OrderID: id, CustomerID: customer, Version: 1, Total: total, ShippingAddress: address, CreatedAt: w.now,
		Lines: []events.PricedLine{{SKU: "MUG-BLUE", Quantity: 2, UnitPrice: events.Money{Amount: price / 2, Currency: "EUR"}}},
	})
	w.tell(id, "order_placed", 1)

	outcome := map[string]saga.Outcome{
		"reserve_stock": cmp.Or(goes.stock, saga.Done), "charge_payment": cmp.Or(goes.payment, saga.Done), "arrange_shipping": cmp.Or(goes.parcel, saga.Done),
	}
	version := int64(1)
	why := events.Reason{Code: "timed_out"}
	messages := map[string][2]event.Body{
		"reserve_stock":    {events.InventoryReserve{OrderID: id, Lines: lines}, events.InventoryRelease{OrderID: id, Reason: why}},
		"charge_payment":   {events.PaymentCharge{OrderID: id, CustomerID: customer, Amount: total, PaymentMethod: "tok"}, events.PaymentRefund{OrderID: id, CustomerID: customer, Amount: total, Reason: why}},
		"arrange_shipping": {events.ShippingArrange{OrderID: id, CustomerID: customer, Address: address, Lines: lines}, events.ShippingCancel{OrderID: id, CustomerID: customer, Reason: why}},
	}
	state := saga.New(w.plan, id, nil)
	var decide func(in saga.Input, cause string)
	decide = func(in saga.Input, cause string) {
		next, commands, err := saga.Decide(w.plan, state, in)
		require.NoError(w.t, err)
		was := state
		state = next
		reason := events.Reason{Code: cmp.Or(state.Reason, "none")}
		if state.Status == saga.Compensating && was.Status == saga.Running {
			version++
		}
		switch {
		case state.Status == saga.Completed && was.Status != saga.Completed:
			version++
			tracking := "SBX" + id
			o.State, o.TrackingNumber = orderapi.OrderStateConfirmed, &tracking
			w.say("order", id, cause, events.OrderConfirmed{OrderID: id, CustomerID: customer, Version: version, Total: total, TrackingNumber: tracking, Carrier: "sandbox", ConfirmedAt: w.now})
			w.tell(id, "order_confirmed", version)
		case state.Status == saga.Compensated && was.Status != saga.Compensated:
			version++
			o.State, o.Failure = orderapi.OrderStateCancelled, &orderapi.Failure{Code: reason.Code}
			w.say("order", id, cause, events.OrderCancelled{OrderID: id, CustomerID: customer, Version: version, Total: total, Reason: reason, CancelledAt: w.now})
			w.tell(id, "order_cancelled", version)
		}
		for _, c := range commands {
			undo := c.Kind == saga.Undo
			command := w.say("order", id, cause, messages[c.Step][map[bool]int{true: 1}[undo]])
			answer := outcome[c.Step]
			if undo {
				answer = saga.Undone
			}
			var said event.Event
			deadline := func() {
				at := state.NextDeadline()
				decide(saga.DeadlinePassed{At: at, Step: c.Step}, fmt.Sprintf("deadline:%s:%s", c.Step, at.Format(time.RFC3339Nano)))
			}
			switch said = w.participant(id, command, c.Step, answer); {
			case !undo && goes.silent == c.Step, undo && goes.twice == c.Step && c.Attempt == 1:
				deadline()
			case !undo && goes.cancelled == c.Step:
				decide(saga.Cancel{At: w.now, Reason: events.ReasonCancelledByCustomer}, "cancel-"+id)
			}
			decide(saga.Reply{At: w.now, Step: c.Step, Outcome: answer, Reason: why.Code, MessageID: said.ID}, said.ID)
		}
	}
	decide(saga.Start{At: w.now}, request)

	if r := w.e.Reservations[id]; r.State == "reserved" && o.State == orderapi.OrderStateConfirmed {
		r.State = "shipped"
		w.e.Reservations[id] = r
	}
	w.e.Orders[id] = o
	w.e.OrderRows[id] = audit.OrderRow{ID: id, Customer: customer, State: o.State, Version: version}
	w.e.Sagas[id] = evidence.Saga{State: state, Column: state.Status}
	w.e.Seen[id] = audit.Seen{OrderID: id, Customer: customer, State: string(o.State), Version: version, Total: total}
	sums := w.e.Customers[customer+" in EUR"]
	sums.Orders++
	if o.State == orderapi.OrderStateConfirmed {
		sums.Confirmed, sums.Spent = sums.Confirmed+1, sums.Spent+price
	} else {
		sums.Cancelled++
	}
	w.e.Customers[customer+" in EUR"] = sums
}

// participant answers a command, and holds what it then holds.
func (w *world) participant(id string, command event.Event, step string, answer saga.Outcome) event.Event {
	lines := []events.Line{{SKU: "MUG-BLUE", Quantity: 2}}
	why := events.Reason{Code: "none"}
	switch step + " " + string(answer) {
	case "reserve_stock done":
		w.e.Reservations[id] = audit.Reservation{OrderID: id, State: "reserved", Lines: lines}
		return w.say("inventory", id, command.ID, events.InventoryReserved{OrderID: id, Lines: lines})
	case "reserve_stock failed":
		w.e.Reservations[id] = audit.Reservation{OrderID: id, State: "rejected"}
		return w.say("inventory", id, command.ID, events.InventoryRejected{OrderID: id, Reason: why})
	case "reserve_stock undone":
		w.e.Reservations[id] = audit.Reservation{OrderID: id, State: "released", Lines: lines}
		return w.say("inventory", id, command.ID, events.InventoryReleased{OrderID: id, Lines: lines})
	case "charge_payment done":
		w.e.Payments[id] = audit.Payment{OrderID: id, State: "charged", Amount: total, Reference: "ch_" + id}
		w.e.Charges[id] = audit.Charge{Key: "charge-" + id, State: "charged", Amount: total, Reference: "ch_" + id}
		return w.say("payment", id, command.ID, events.PaymentCharged{OrderID: id, CustomerID: customer, PaymentID: "p-" + id, Amount: total, ProviderReference: "ch_" + id})
	case "charge_payment failed":
		w.e.Payments[id] = audit.Payment{OrderID: id, State: "declined", Amount: total}
		w.e.Charges[id] = audit.Charge{Key: "charge-" + id, State: "declined", Amount: total}
		return w.say("payment", id, command.ID, events.PaymentDeclined{OrderID: id, CustomerID: customer, Reason: why})
	case "charge_payment undone":
		p, c := w.e.Payments[id], w.e.Charges[id]
		p.State, p.Refunded, p.RefundReference = "refunded", p.Amount.Amount, "re_"+id
		c.State, c.RefundReference = "refunded", "re_"+id
		w.e.Payments[id], w.e.Charges[id] = p, c
		w.tell(id, "order_refunded", 1)
		return w.say("payment", id, command.ID, events.PaymentRefunded{OrderID: id, CustomerID: customer, Amount: total, ProviderReference: "re_" + id})
	case "arrange_shipping done":
		w.e.Shipments[id] = audit.Shipment{OrderID: id, State: "arranged", TrackingNumber: "SBX" + id}
		w.e.Parcels[id] = audit.Parcel{Key: "arrange-" + id, State: "arranged", TrackingNumber: "SBX" + id}
		return w.say("shipping", id, command.ID, events.ShippingArranged{OrderID: id, CustomerID: customer, ShipmentID: "s-" + id, Carrier: "sandbox", TrackingNumber: "SBX" + id})
	case "arrange_shipping failed":
		w.e.Shipments[id] = audit.Shipment{OrderID: id, State: "refused"}
		w.e.Parcels[id] = audit.Parcel{Key: "arrange-" + id, State: "refused", TrackingNumber: "SBX" + id}
		return w.say("shipping", id, command.ID, events.ShippingFailed{OrderID: id, CustomerID: customer, Reason: why})
	case "arrange_shipping undone":
		s, p := w.e.Shipments[id], w.e.Parcels[id]
		s.State, p.State = "cancelled", "cancelled"
		w.e.Shipments[id], w.e.Parcels[id] = s, p
		return w.say("shipping", id, command.ID, events.ShippingCancelled{OrderID: id, CustomerID: customer, ShipmentID: "s-" + id})
	}
	require.FailNow(w.t, "no participant answers so", "%s %s", step, answer)
	return event.Event{}
}

// tell numbers a notification.
func (w *world) tell(id, kind string, version int64) {
	w.e.Last[customer]++
	w.e.NotificationRows[customer]++
	n := notificationapi.Notification{
		ID: id + "-" + kind, Position: feed.Position(w.e.Last[customer]), CustomerID: customer, OrderID: id, OrderVersion: version, Kind: kind, At: w.now,
	}
	w.e.Notifications[customer] = append([]notificationapi.Notification{n}, w.e.Notifications[customer]...)
	data, err := json.Marshal(n)
	require.NoError(w.t, err)
	w.e.Feeds[customer] = append(w.e.Feeds[customer], audit.Entry{Position: n.Position, ID: n.ID, Data: string(data)})
}

// evidence puts the topics together, with every group at their ends.
func (w *world) evidence() audit.Evidence {
	w.e.Log.Ends = map[evidence.Partition]int64{}
	for _, topic := range slices.Sorted(func(yield func(string) bool) {
		for _, t := range events.Topics() {
			if (t.Kind == events.KindEvent || t.Kind == events.KindCommand) && !yield(t.Name) {
				return
			}
		}
	}) {
		w.e.Log.Records = append(w.e.Log.Records, w.records[topic]...)
		w.e.Log.Ends[evidence.Partition{Topic: topic}] = int64(len(w.records[topic]))
	}
	for _, service := range client.Services() {
		g := kafka.GroupLag{Group: service, State: "Stable", Members: 1}
		for _, t := range events.Received(service) {
			if end, is := w.e.Log.Ends[evidence.Partition{Topic: t.Name}]; is {
				g.Partitions = append(g.Partitions, kafka.PartitionLag{Topic: t.Name, Committed: end, End: end})
			}
		}
		w.e.Lag = append(w.e.Lag, g)
	}
	return w.e
}

// find is where the first message of a type and an order stands.
func (w *world) find(typ, id string) (topic string, at int) {
	w.t.Helper()
	for topic, all := range w.records {
		if at := slices.IndexFunc(all, func(r evidence.Record) bool { return r.Event.Type == typ && r.Event.Key == id }); at >= 0 {
			return topic, at
		}
	}
	require.FailNow(w.t, "no such message", "%s of %s", typ, id)
	return "", 0
}

// message is the first of a type and an order.
func (w *world) message(typ, id string) event.Event {
	topic, at := w.find(typ, id)
	return w.records[topic][at].Event
}

// body reads the first message of a type and an order.
func (w *world) body(typ, id string, into event.Body) {
	w.t.Helper()
	require.NoError(w.t, json.Unmarshal(w.message(typ, id).Data, into))
}

// change makes another message of the first of a type and an order.
func (w *world) change(typ, id string, to func(e *event.Event)) {
	topic, at := w.find(typ, id)
	r := w.records[topic][at]
	to(&r.Event)
	r.Key, r.Value, r.Headers = []byte(r.Event.Key), r.Event.Data, r.Event.Headers()
	w.records[topic][at] = evidence.NewRecord(r.Record)
}

// again sends the first message of a type and an order once more, changed.
func (w *world) again(typ, id string, to func(e *event.Event)) {
	topic, at := w.find(typ, id)
	e := w.records[topic][at].Event
	to(&e)
	w.put(topic, e)
}

// swap turns two places of a topic round.
func (w *world) swap(topic string, a, b int) {
	x, y := w.records[topic][a], w.records[topic][b]
	x.Offset, y.Offset = y.Offset, x.Offset
	w.records[topic][a], w.records[topic][b] = y, x
}

// unmark takes a message out of a service's inbox.
func (w *world) unmark(service, id string) {
	tables := w.e.Tables[service]
	tables.Inbox = slices.DeleteFunc(slices.Clone(tables.Inbox), func(m evidence.Mark) bool { return m.MessageID == id })
	w.e.Tables[service] = tables
}
