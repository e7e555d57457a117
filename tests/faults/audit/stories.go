package audit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
)

// The steps of an order's saga.
const (
	stepReserve = "reserve_stock"
	stepCharge  = "charge_payment"
	stepShip    = "arrange_shipping"
)

// sourceOrder is who says that it is the order service.
const sourceOrder = "/orderflow/order"

// step is what a step of the saga looks like on the topics.
type step struct {
	name, participant string
	// topic is the participant's commands'.
	topic, do, undo string
	// answers are the event types by what they mean to the saga.
	answers map[saga.Outcome]string
}

var plan = []step{
	{stepReserve, "inventory", events.TopicInventoryCommands, events.TypeInventoryReserve, events.TypeInventoryRelease, map[saga.Outcome]string{
		saga.Done: events.TypeInventoryReserved, saga.Failed: events.TypeInventoryRejected, saga.Undone: events.TypeInventoryReleased,
	}},
	{stepCharge, "payment", events.TopicPaymentCommands, events.TypePaymentCharge, events.TypePaymentRefund, map[saga.Outcome]string{
		saga.Done: events.TypePaymentCharged, saga.Failed: events.TypePaymentDeclined, saga.Undone: events.TypePaymentRefunded,
	}},
	{stepShip, "shipping", events.TopicShippingCommands, events.TypeShippingArrange, events.TypeShippingCancel, map[saga.Outcome]string{
		saga.Done: events.TypeShippingArranged, saga.Failed: events.TypeShippingFailed, saga.Undone: events.TypeShippingCancelled,
	}},
}

// sagas: each order has one, and both have ended alike.
func (c *court) sagas() (string, []string) {
	var wrong list
	for id, o := range sorted(c.Orders) {
		s, is := c.Sagas[id]
		if !is {
			wrong.add("order %s has no saga", id)
			continue
		}
		wrong = append(wrong, s.Unended()...)
		if want := map[saga.Status]orderapi.OrderState{saga.Completed: orderapi.OrderStateConfirmed, saga.Compensated: orderapi.OrderStateCancelled}[s.Status]; want != "" && o.State != want {
			wrong.add("order %s is %s, and its saga %s", id, o.State, s.Status)
		}
		row := c.OrderRows[id]
		if row.State != o.State || row.Customer != o.CustomerID {
			wrong.add("order %s is %s of %s over REST, and %q of %q in its table", id, o.State, o.CustomerID, row.State, row.Customer)
		}
	}
	for id := range sorted(c.OrderRows) {
		if _, is := c.Orders[id]; !is {
			wrong.add("order %s is in its table and not in the list over REST", id)
		}
	}
	unknown(c, &wrong, "a saga", c.Sagas)
	return fmt.Sprintf("%d sagas of %d orders", len(c.Sagas), len(c.Orders)), wrong
}

// stories: what stands in the topics of an order is what its saga sent and was answered, in an order that it allows.
func (c *court) stories() (string, []string) {
	var wrong list
	for key, topics := range sorted(c.sequences) {
		if _, is := c.Orders[key]; is {
			continue
		}
		for _, all := range sorted(topics) {
			for _, r := range all {
				wrong.add("%s is about an order that does not exist", r)
			}
		}
	}
	for id, o := range sorted(c.Orders) {
		s := story{court: c, order: o, saga: c.Sagas[id], topics: c.sequences[id], wrong: &wrong}
		s.events()
		for _, p := range plan {
			s.commands(p)
		}
		s.answers()
		s.journal()
		s.causes()
	}
	return fmt.Sprintf("%d orders' messages", len(c.sequences)), wrong
}

// story is one order on the topics.
type story struct {
	*court
	order  orderapi.Order
	saga   evidence.Saga
	topics map[string][]evidence.Record
	wrong  *list
}

func (s story) say(format string, args ...any) {
	s.wrong.add("order %s: %s", s.order.OrderID, fmt.Sprintf(format, args...))
}

// events: it was created once, and has the one event of its end.
func (s story) events() {
	for topic, want := range map[string]int{
		events.TopicOrderCreated:   1,
		events.TopicOrderConfirmed: map[bool]int{true: 1}[s.order.State == orderapi.OrderStateConfirmed],
		events.TopicOrderCancelled: map[bool]int{true: 1}[s.order.State == orderapi.OrderStateCancelled],
	} {
		all := s.topics[topic]
		if len(all) != want {
			s.say("it is %s, and has %d of %s, must be %d%s", s.order.State, len(all), topic, want, ids(all))
		}
		for _, r := range all {
			s.body(r)
		}
	}
}

// body holds what an event says of the order against the order.
func (s story) body(r evidence.Record) {
	var body struct {
		CustomerID string       `json:"customer_id"`
		Version    int64        `json:"version"`
		Total      events.Money `json:"total"`
		Reason     struct{ Code string }
		Lines      []events.Line
		Tracking   string `json:"tracking_number"`
	}
	if json.Unmarshal(r.Event.Data, &body) != nil {
		return // its schema says so
	}
	same := func(what string, got, want any) {
		if got != want {
			s.say("%s says that its %s is %v, must be %v", r, what, got, want)
		}
	}
	same("customer", body.CustomerID, s.order.CustomerID)
	same("total", body.Total, events.Money(s.order.Total))
	version := s.OrderRows[s.order.OrderID].Version
	if r.Topic == events.TopicOrderCreated {
		version = 1
		same("lines", pieces(body.Lines), pieces(ordered(s.order)))
	}
	same("version", body.Version, version)
	if s.order.Failure != nil && r.Topic == events.TopicOrderCancelled {
		same("reason", body.Reason.Code, s.order.Failure.Code)
	}
	if s.order.TrackingNumber != nil && r.Topic == events.TopicOrderConfirmed {
		same("tracking number", body.Tracking, *s.order.TrackingNumber)
	}
}

func ids(all []evidence.Record) (text string) {
	for _, r := range all {
		text += ", " + r.Event.ID
	}
	return text
}

// commands: as many as the saga sent, nothing is done after it was undone, and each has one answer.
func (s story) commands(p step) {
	sent := map[string]int{}
	var undone *evidence.Record
	for _, r := range s.topics[p.topic] {
		sent[r.Event.Type]++
		switch r.Event.Type {
		case p.undo:
			undone = &r
		case p.do:
			if undone != nil {
				s.say("%s comes after %s", r, undone)
			}
		}
		s.answered(p, r)
	}
	for _, step := range s.saga.Steps {
		if step.Name != p.name {
			continue
		}
		for typ, want := range map[string]int{p.do: step.Attempts, p.undo: step.UndoAttempts} {
			if sent[typ] != want {
				s.say("its saga has sent %d of %s, and %d stand in %s", want, typ, sent[typ], p.topic)
			}
		}
	}
}

// answered: a command has one answer, unless the participant gave it up.
func (s story) answered(p step, command evidence.Record) {
	answers := s.effects[command.Event.ID]
	_, open := s.gaveUp(p.participant, command.Event.ID)
	if len(answers) != 1 && !(len(answers) == 0 && open) {
		s.say("%s has %d answers, must be 1%s", command, len(answers), ids(answers))
	}
}

// answers: each follows a command of its kind, and those in one topic are in the order of their commands, unless the
// participant had given one up.
func (s story) answers() {
	for _, p := range plan {
		place := map[string]int{}
		for i, r := range s.topics[p.topic] {
			place[r.Event.ID] = i
		}
		for outcome, typ := range p.answers {
			last := -1
			for _, r := range s.topics[typ] {
				command := s.byID[r.Event.CausationID]
				kind := p.do
				if outcome == saga.Undone {
					kind = p.undo
				}
				if command.Event.Type != kind || command.Event.Key != r.Event.Key {
					s.say("%s follows no %s of the order, but %q", r, kind, r.Event.CausationID)
					continue
				}
				at, own := place[command.Event.ID]
				if ever, _ := s.gaveUp(p.participant, command.Event.ID); ever || !own {
					continue
				}
				if at < last {
					s.say("%s comes after the answer to a later command", r)
				}
				last = max(last, at)
			}
		}
	}
}

// journal: every answer that the saga wrote down stands in the topics as what it was taken for, and none was unasked for.
func (s story) journal() {
	for _, e := range s.saga.Journal {
		if e.MessageID == "" {
			continue
		}
		r, is := s.byID[e.MessageID]
		typ := ""
		for _, p := range plan {
			if p.name == e.Step {
				typ = p.answers[e.Outcome]
			}
		}
		switch {
		case !is:
			s.say("its saga has %q of message %s, which stands in no topic", e, e.MessageID)
		case r.Event.Key != s.order.OrderID || r.Event.Type != typ:
			s.say("its saga has %q of %s", e, r)
		case e.Kind == saga.EntryUnexpectedReply && !s.options.foreign(r) && !s.options.foreign(s.byID[r.Event.CausationID]):
			s.say("its saga was answered what it had never asked: %q of %s", e, r)
		}
	}
}

// Causes that stand in no topic.
const (
	causeRequest  = "a request"
	causeDeadline = "the deadline of "
)

// led are the causes that the saga allows a message of the order service to have, by its type.
var led = func() map[string][]string {
	allowed := map[string][]string{
		events.TypeOrderCreated:   {causeRequest},
		events.TypeOrderConfirmed: {plan[len(plan)-1].answers[saga.Done]},
		// An operator may have the last undo skipped.
		events.TypeOrderCancelled: {plan[0].answers[saga.Failed], plan[0].answers[saga.Undone], causeRequest},
	}
	for k, p := range plan {
		// Both are sent again at an operator's word, and an undo by its deadline; a cancel gives up the step in flight.
		allowed[p.do], allowed[p.undo] = []string{causeRequest}, []string{causeRequest, causeDeadline + p.name}
		if k > 0 {
			allowed[p.do] = append(allowed[p.do], plan[k-1].answers[saga.Done])
		}
		if k+1 < len(plan) {
			allowed[p.undo] = append(allowed[p.undo], plan[k+1].answers[saga.Failed], plan[k+1].answers[saga.Undone])
		}
	}
	return allowed
}()

// causes: each message of the order service was led to by what the saga allows, which leads to one of a type: a deadline fires
// once. Requests and deadlines led to some as often as the saga says.
func (s story) causes() {
	outer := map[string]map[string]bool{}    // by kind
	first := map[[2]string]evidence.Record{} // by cause and type
	var placed string
	for _, r := range s.topics[events.TopicOrderCreated] {
		placed = r.Event.CausationID
	}
	for _, all := range sorted(s.topics) {
		for _, r := range all {
			cause := r.Event.CausationID
			if cause == "" {
				continue // evidence.Log.Causes says so
			}
			kind := causeRequest
			if of, inside := s.byID[cause]; inside {
				kind = of.Event.Type
			} else if rest, is := strings.CutPrefix(cause, "deadline:"); is {
				step, _, _ := strings.Cut(rest, ":")
				kind = causeDeadline + step
			}
			if allowed, is := led[r.Event.Type]; is {
				if !slices.Contains(allowed, kind) {
					s.say("%s was led to by %s (%s), must be by %s", r, kind, cause, strings.Join(allowed, " or "))
				}
				if was, twice := first[[2]string{cause, r.Event.Type}]; twice {
					s.say("%s was led to by %s (%s), which has led to %s before", r, kind, cause, was)
				} else {
					first[[2]string{cause, r.Event.Type}] = r
				}
			}
			if _, inside := s.byID[cause]; !inside && cause != placed {
				if outer[kind] == nil {
					outer[kind] = map[string]bool{}
				}
				outer[kind][cause] = true
			}
		}
	}
	if sent := s.requestIDs(); placed != "" && len(sent) > 0 && !slices.Contains(sent, placed) {
		s.say("its creation was led to by %s, must be by the request, %s", placed, strings.Join(sent, " or "))
	}
	if s.saga.JournalDropped > 0 {
		return
	}
	known := map[string]int{}
	for _, e := range s.saga.Journal {
		switch e.Kind {
		case saga.EntryDeadlinePassed:
			known[causeDeadline+e.Step]++
		case saga.EntryCancelRequested, saga.EntryOperator:
			known[causeRequest]++
		}
	}
	for kind, causes := range sorted(outer) {
		if len(causes) > known[kind] {
			s.say("its messages were led to by %s %d times (%s), its saga says %d", kind, len(causes), names(causes), known[kind])
		}
	}
}

// requestIDs are those of the POSTs that may have placed the order, as far as they are known.
func (s story) requestIDs() (ids []string) {
	for _, p := range s.Placed {
		if p.OrderID == s.order.OrderID && p.Status == http.StatusAccepted && p.RequestID != "" {
			ids = append(ids, p.RequestID)
		}
	}
	return ids
}
