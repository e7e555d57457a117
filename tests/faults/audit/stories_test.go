package audit_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tests/faults/audit"
)

func TestStories(t *testing.T) {
	const finding = audit.FindingStories
	journal := func(id string, to func(s *evidence.Saga)) func(e *audit.Evidence) {
		return func(e *audit.Evidence) {
			set(e.Sagas, id, func(s *evidence.Saga) {
				s.Journal = slices.Clone(s.Journal)
				to(s)
			})
		}
	}
	answered := func(s *evidence.Saga) int { // the first entry of an answer
		return slices.IndexFunc(s.Journal, func(j saga.Entry) bool { return j.MessageID != "" })
	}
	check(t, []plant{
		{name: "an order of nobody's", finding: finding, says: "is about an order that does not exist",
			world: func(w *world) { w.say("inventory", "gone", "request-gone", events.InventoryReleased{OrderID: "gone"}) }, also: []string{audit.FindingMessages}},
		{name: "a record of the test's own",
			world:   func(w *world) { w.say("tests", "gone", "tests", events.InventoryReleased{OrderID: "gone"}) },
			options: audit.Options{Foreign: func(r evidence.Record) bool { return r.Event.Source == "/orderflow/tests" }}},
		{name: "confirmed twice", finding: finding, says: "order confirmed: it is confirmed, and has 2 of order.confirmed, must be 1",
			world: func(w *world) {
				var body events.OrderConfirmed
				w.body("order.confirmed", "confirmed", &body)
				w.say("order", "confirmed", w.message("order.confirmed", "confirmed").CausationID, body)
			}},
		{name: "its end was not said", finding: finding, says: "order declined: it is cancelled, and has 0 of order.cancelled, must be 1", also: []string{audit.FindingHandled},
			world: func(w *world) { w.records["order.cancelled"] = slices.Delete(w.records["order.cancelled"], 1, 2) }},
		{name: "both ends", finding: finding, says: "order confirmed: it is confirmed, and has 1 of order.cancelled, must be 0",
			world: func(w *world) {
				w.say("order", "confirmed", w.message("inventory.reserved", "confirmed").ID,
					events.OrderCancelled{OrderID: "confirmed", CustomerID: customer, Version: 2, Total: total, Reason: events.Reason{Code: "x"}, CancelledAt: w.now})
			}},
		{name: "an event with another total", finding: finding, says: "says that its total is {1 EUR}, must be {2500 EUR}",
			world: func(w *world) {
				w.change("order.confirmed", "confirmed", replaced(`"amount":2500`, `"amount":1`))
			}},
		{name: "an event with another reason", finding: finding, says: "says that its reason is another, must be timed_out",
			world: func(w *world) { w.change("order.cancelled", "silent", replaced(`"timed_out"`, `"another"`)) }},
		{name: "an event with another version", finding: finding, says: "says that its version is 9, must be 3",
			world: func(w *world) { w.change("order.cancelled", "silent", replaced(`"version":3`, `"version":9`)) }},
		{name: "done after undone", finding: finding, says: "comes after inventory.release",
			world: func(w *world) {
				_, do := w.find("inventory.reserve", "refused")
				_, undo := w.find("inventory.release", "refused")
				w.swap("inventory.commands", do, undo)
			}},
		{name: "a command too many", finding: finding, says: "order confirmed: its saga has sent 1 of payment.charge, and 2 stand in payment.commands",
			world: func(w *world) {
				var body events.PaymentCharge
				w.body("payment.charge", "confirmed", &body)
				w.say("order", "confirmed", w.message("payment.charge", "confirmed").CausationID, body)
			}},
		{name: "a command without an answer", finding: finding, says: "has 0 answers, must be 1", also: []string{audit.FindingHandled},
			world: func(w *world) {
				topic, at := w.find("inventory.released", "asked-twice")
				w.records[topic] = slices.Delete(w.records[topic], at, at+1)
			}},
		{name: "two answers to a command", finding: finding, says: "has 2 answers, must be 1",
			world: func(w *world) {
				w.say("inventory", "confirmed", w.message("inventory.reserve", "confirmed").ID, events.InventoryRejected{OrderID: "confirmed", Reason: events.Reason{Code: "x"}})
			}},
		{name: "an answer to another's command", finding: finding, says: "order confirmed: payment.charged ", // and both commands have too few or too many
			also: []string{audit.FindingMessages},
			world: func(w *world) {
				other := w.message("payment.charge", "refused").ID
				w.change("payment.charged", "confirmed", func(e *event.Event) { e.CausationID = other })
			}},
		{name: "an answer that nothing asked for", finding: finding, says: "follows no inventory.release of the order",
			world: func(w *world) {
				w.say("inventory", "confirmed", w.message("order.confirmed", "confirmed").ID, events.InventoryReleased{OrderID: "confirmed"})
			}},
		{name: "answers out of order", finding: finding, says: "comes after the answer to a later command",
			world: func(w *world) {
				topic, at := w.find("inventory.released", "asked-twice")
				w.swap(topic, at, at+1)
			}},
		{name: "led to by what the saga does not allow", finding: finding, says: "was led to by inventory.reserved (",
			world: func(w *world) {
				from := w.message("inventory.reserved", "confirmed").ID
				w.change("shipping.arrange", "confirmed", func(e *event.Event) { e.CausationID = from })
			}},
		{name: "a deadline that the saga does not know", finding: finding,
			says: "order silent: its messages were led to by the deadline of charge_payment 1 times (deadline:charge_payment:",
			evidence: journal("silent", func(s *evidence.Saga) {
				s.Journal = slices.DeleteFunc(s.Journal, func(j saga.Entry) bool { return j.Kind == saga.EntryDeadlinePassed })
			})},
		{name: "a deadline that fired twice", finding: finding, says: ", which has led to inventory.release m-",
			world: func(w *world) {
				topic, at := w.find("inventory.release", "asked-twice")
				var body events.InventoryRelease
				w.body("inventory.release", "asked-twice", &body)
				w.say("order", "asked-twice", w.records[topic][at+1].Event.CausationID, body)
			}},
		{name: "another request", finding: finding, says: "its creation was led to by request-confirmed, must be by the request, request-other",
			evidence: func(e *audit.Evidence) { e.Placed[0].RequestID = "request-other" }},
		{name: "a deadline of a journal that was cut", evidence: journal("silent", func(s *evidence.Saga) {
			s.JournalDropped = 1
			s.Journal = slices.DeleteFunc(s.Journal, func(j saga.Entry) bool { return j.Kind == saga.EntryDeadlinePassed })
		})},
		{name: "an answer out of order that had been a dead letter",
			world: func(w *world) {
				topic, at := w.find("inventory.released", "asked-twice")
				w.swap(topic, at, at+1)
				_, at = w.find("inventory.release", "asked-twice")
				w.e.Letters["inventory"] = []letters.Letter{{ID: w.records["inventory.commands"][at].Place(), State: letters.StateRedriven}}
			}},
		{name: "an answer taken for another", finding: finding, says: `order confirmed: its saga has "reply reserve_stock: failed (timed_out)" of inventory.reserved m-`,
			evidence: journal("confirmed", func(s *evidence.Saga) { s.Journal[answered(s)].Outcome = saga.Failed })},
		{name: "an answer unasked for", finding: finding, says: `order confirmed: its saga was answered what it had never asked: "unexpected reply reserve_stock: done (timed_out)" of inventory.reserved m-`,
			evidence: journal("confirmed", func(s *evidence.Saga) { s.Journal[answered(s)].Kind = saga.EntryUnexpectedReply })},
		{name: "an answer that the topics do not have", finding: finding, says: "which stands in no topic",
			evidence: journal("confirmed", func(s *evidence.Saga) { s.Journal[answered(s)].MessageID = "m-none" })},
	})
}

func TestMessages(t *testing.T) {
	const finding = audit.FindingMessages
	check(t, []plant{
		{name: "no message", finding: finding, says: "the record at order.created-0-7: header ce_id is missing",
			world: func(w *world) { w.put("order.created", event.Event{Key: "confirmed"}) }},
		{name: "no JSON", finding: finding, says: "order.confirmed m-",
			world: func(w *world) {
				w.change("order.confirmed", "confirmed", func(e *event.Event) { e.Data = []byte("{") })
			}},
		{name: "the same again", world: func(w *world) { w.again("payment.charged", "confirmed", func(*event.Event) {}) }},
		{name: "again with other bytes", finding: finding, says: "too, with another value: ",
			world: func(w *world) { w.again("payment.charged", "confirmed", replaced("ch_confirmed", "ch_other")) }},
		{name: "again with another cause", finding: finding, says: `too, with another ce_causationid: "m-`,
			world: func(w *world) {
				w.again("payment.charged", "confirmed", func(e *event.Event) { e.CausationID = "m-1" })
			}},
		{name: "another correlation id", finding: finding, says: `correlation id "other" and subject "confirmed" must be its key`,
			world: func(w *world) {
				w.change("order.confirmed", "confirmed", func(e *event.Event) { e.CorrelationID = "other" })
			}},
		{name: "no cause", finding: finding, says: "has no cause",
			world: func(w *world) {
				w.change("order.confirmed", "confirmed", func(e *event.Event) { e.CausationID = "" })
			}},
		{name: "breaks its schema", finding: finding, says: "reason",
			world: func(w *world) { w.change("payment.declined", "declined", replaced(`"reason"`, `"raison"`)) }},
		{name: "a cause that is gone", finding: finding, says: "payment.charged m-", also: []string{audit.FindingStories},
			world: func(w *world) {
				w.change("payment.charged", "confirmed", func(e *event.Event) { e.CausationID = "m-none" })
			}},
		{name: "on another's topic", finding: finding, says: "is of a type that does not belong on its topic", also: []string{audit.FindingHandled, audit.FindingStories},
			world: func(w *world) {
				topic, at := w.find("inventory.released", "declined")
				e := w.records[topic][at].Event
				e.ID, e.CausationID = "m-misplaced", w.message("inventory.rejected", "out-of-stock").CausationID
				e.Key, e.Subject, e.CorrelationID = "out-of-stock", "out-of-stock", "out-of-stock"
				w.put("inventory.rejected", e)
			}},
	})
}

func TestTold(t *testing.T) {
	const finding = audit.FindingTold
	check(t, []plant{
		{name: "told twice", finding: finding, says: "order confirmed: order_placed was told 2 times, must be 1",
			world: func(w *world) { w.tell("confirmed", "order_placed", 1) }},
		{name: "told of no refund", finding: finding, says: "order confirmed: order_refunded was told 1 times, must be 0",
			world: func(w *world) { w.tell("confirmed", "order_refunded", 1) }},
		{name: "a refund was not told", finding: finding, says: "order silent: order_refunded was not told",
			evidence: func(e *audit.Evidence) {
				for i, n := range e.Notifications[customer] {
					if n.ID == "silent-order_refunded" {
						e.Notifications[customer][i].Kind = "order_late"
					}
				}
			}},
		{name: "a number twice", finding: finding, says: "has number 1-0, must be 2-0",
			evidence: func(e *audit.Evidence) {
				all := e.Notifications[customer]
				all[len(all)-2].Position = all[len(all)-1].Position
			}},
		{name: "told of an order of nobody's", finding: finding, says: "notification gone-order_placed of ada is about order gone, which does not exist",
			world: func(w *world) { w.tell("gone", "order_placed", 1) }},
		{name: "told of another's order", finding: finding, says: "is about order confirmed of bob", also: []string{audit.FindingPosts, audit.FindingSagas, audit.FindingStories, audit.FindingAnalytics},
			evidence: func(e *audit.Evidence) {
				set(e.Orders, "confirmed", func(o *orderapi.Order) { o.CustomerID = "bob" })
			}},
		{name: "the feed has another's entry", finding: finding, says: "the feed of ada has other as entry 1-0, must be confirmed-order_placed",
			evidence: func(e *audit.Evidence) { e.Feeds[customer][0].ID = "other" }},
		{name: "the feed has no notification", finding: finding, says: "the feed of ada: entry 1-0: ",
			evidence: func(e *audit.Evidence) { e.Feeds[customer][0].Data = "none" }},
		{name: "the feed goes on", finding: finding, says: "the feed of ada has entry 99-0 (confirmed-order_late), and the last notification is number ",
			evidence: func(e *audit.Evidence) {
				e.Feeds[customer] = append(e.Feeds[customer], audit.Entry{Position: "99-0", ID: "confirmed-order_late", Data: "{}"})
			}},
		{name: "the feed has a gap", finding: finding, says: "the feed of ada has a gap between 1 and 3",
			evidence: func(e *audit.Evidence) { e.Feeds[customer] = slices.Delete(e.Feeds[customer], 1, 2) }},
		{name: "the feed has a gap since Redis lost it", options: audit.Options{RedisLost: true},
			evidence: func(e *audit.Evidence) { e.Feeds[customer] = slices.Delete(e.Feeds[customer], 1, 2) }},
		{name: "the feed lacks the last", finding: finding, says: "the feed of ada ends at ",
			evidence: func(e *audit.Evidence) { e.Feeds[customer] = e.Feeds[customer][:len(e.Feeds[customer])-1] }},
		{name: "the feed lacks the first", finding: finding, says: "the feed of ada has ",
			evidence: func(e *audit.Evidence) { e.Feeds[customer] = e.Feeds[customer][1:] }},
		{name: "the feed says something else", finding: finding, says: "the feed of ada: entry 1-0 says",
			evidence: func(e *audit.Evidence) {
				e.Feeds[customer][0].Data = strings.Replace(e.Feeds[customer][0].Data, "order_placed", "order_late", 1)
			}},
		{name: "a feed of nobody's", finding: finding, says: "there is a feed of bob, who was told nothing",
			evidence: func(e *audit.Evidence) { e.Feeds["bob"] = e.Feeds[customer] }},
		{name: "a number was given for nothing", finding: finding, says: "and the last number given is ",
			evidence: func(e *audit.Evidence) { e.Last[customer]++ }},
		{name: "the table has more", finding: finding, says: "over REST, and ",
			evidence: func(e *audit.Evidence) { e.NotificationRows[customer]++ }},
	})
}

// replaced changes a message's data.
func replaced(old, changed string) func(e *event.Event) {
	return func(e *event.Event) { e.Data = []byte(strings.Replace(string(e.Data), old, changed, 1)) }
}
