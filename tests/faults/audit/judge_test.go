package audit_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tools/books"
)

// Whatever way its orders went, a sound system passes.
func TestSound(t *testing.T) {
	t.Parallel()
	e := newWorld(t).evidence()
	found := audit.Judge(e, audit.Options{})
	require.NoError(t, found.Err())
	require.True(t, found.OK)
	for id, state := range map[string]orderapi.OrderState{
		"confirmed": "confirmed", "out-of-stock": "cancelled", "declined": "cancelled", "refused": "cancelled", "silent": "cancelled",
		"called-off": "cancelled", "asked-twice": "cancelled",
	} {
		require.Equal(t, state, e.Orders[id].State, id)
	}
	require.Len(t, e.Orders, 7)
}

// plant is something that is off, and what must be said of it.
type plant struct {
	name string
	// world changes what happened, evidence what was seen of it.
	world    func(w *world)
	evidence func(e *audit.Evidence)
	options  audit.Options
	// finding names it in a sentence that has says, and no other finding is wrong but those of also.
	finding, says string
	also          []string
}

// set changes a value of a map.
func set[V any](m map[string]V, key string, to func(*V)) {
	v := m[key]
	to(&v)
	m[key] = v
}

func check(t *testing.T, plants []plant) {
	t.Parallel()
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if p.world != nil {
				p.world(w)
			}
			e := w.evidence()
			if p.evidence != nil {
				p.evidence(&e)
			}
			found := audit.Judge(e, p.options)
			wrong := map[string]string{}
			for _, f := range found.Findings {
				require.Equal(t, f.OK, len(f.Wrong) == 0)
				if !f.OK {
					wrong[f.Name] = strings.Join(f.Wrong, "\n")
				}
			}
			if p.finding == "" {
				require.NoError(t, found.Err())
				return
			}
			require.False(t, found.OK)
			require.ElementsMatch(t, append(p.also, p.finding), slices.Collect(maps.Keys(wrong)), "%v", found.Err())
			require.Contains(t, wrong[p.finding], p.says)
		})
	}
}

func TestPosts(t *testing.T) {
	const finding = audit.FindingPosts
	placed := func(change func(p *audit.Placed)) func(e *audit.Evidence) {
		return func(e *audit.Evidence) { change(&e.Placed[0]) } // that of order "confirmed"
	}
	status := func(status int) func(e *audit.Evidence) {
		return placed(func(p *audit.Placed) { p.Status, p.OrderID = status, "" })
	}
	check(t, []plant{
		{name: "a 202 without an order", finding: finding, says: `order "gone" was answered with 202 (key key-gone) and does not exist`,
			evidence: func(e *audit.Evidence) {
				e.Placed = append(e.Placed, audit.Placed{Key: "key-gone", Status: http.StatusAccepted, OrderID: "gone"})
			}},
		{name: "somebody else's order", finding: finding, says: "order confirmed was placed by bob (key key-confirmed) and is of ada",
			evidence: placed(func(p *audit.Placed) { p.Customer = "bob" })},
		{name: "an order that was refused", finding: finding, says: "order confirmed is of key key-confirmed, which was answered with 422",
			evidence: status(http.StatusUnprocessableEntity)},
		{name: "an order without an answer", evidence: status(0)},
		{name: "an order whose answer says nothing", evidence: status(http.StatusServiceUnavailable), options: audit.Options{Ambiguous: []int{http.StatusServiceUnavailable}}},
		{name: "an order behind a 503", evidence: status(http.StatusServiceUnavailable), finding: finding, says: "answered with 503"},
		{name: "the second try is answered", evidence: func(e *audit.Evidence) {
			e.Placed = append(e.Placed, e.Placed[0])
			e.Placed[0].Status, e.Placed[0].OrderID = 0, ""
		}},
		{name: "one key, two orders", finding: finding, says: "key key-confirmed was answered with 2 orders: confirmed, declined",
			evidence: func(e *audit.Evidence) {
				e.Placed = append(e.Placed, audit.Placed{Key: "key-confirmed", Status: http.StatusAccepted, OrderID: "declined"})
			}},
		{name: "another order is kept for a key", finding: finding, says: "key key-confirmed was answered with order confirmed, and order declined is kept for it",
			evidence: func(e *audit.Evidence) {
				e.Answers[0].OrderID, e.Answers[2].OrderID = e.Answers[2].OrderID, e.Answers[0].OrderID
			}},
		{name: "an order that nobody asked for", finding: finding, says: "order confirmed is of key key-confirmed, which nobody sent",
			evidence: func(e *audit.Evidence) { e.Placed = e.Placed[1:] }},
		{name: "an order without a key", finding: finding, says: "order confirmed is the answer to no Idempotency-Key",
			evidence: func(e *audit.Evidence) { e.Answers = e.Answers[1:] }},
		{name: "an order with two keys", finding: finding, says: "order confirmed is kept as the answer to two keys: key-confirmed and key-again",
			evidence: func(e *audit.Evidence) {
				e.Answers = append(e.Answers, audit.Answer{Key: "key-again", Status: http.StatusAccepted, OrderID: "confirmed"})
			}},
		{name: "an answer without an order", finding: finding, says: "order gone is kept as the answer to key key-gone and does not exist",
			evidence: func(e *audit.Evidence) {
				e.Answers = append(e.Answers, audit.Answer{Key: "key-gone", Status: http.StatusAccepted, OrderID: "gone"})
			}},
		{name: "an order that has not ended", finding: finding, says: "order confirmed was answered with 202 (key key-confirmed) and is pending",
			also:     []string{audit.FindingSagas, audit.FindingStories, audit.FindingTold, audit.FindingAnalytics},
			evidence: func(e *audit.Evidence) { set(e.Orders, "confirmed", func(o *orderapi.Order) { o.State = "pending" }) }},
	})
}

func TestParticipants(t *testing.T) {
	const finding = audit.FindingParticipants
	reservation := func(id string, to func(*audit.Reservation)) func(*audit.Evidence) {
		return func(e *audit.Evidence) { set(e.Reservations, id, to) }
	}
	payment := func(id string, to func(*audit.Payment)) func(*audit.Evidence) {
		return func(e *audit.Evidence) { set(e.Payments, id, to) }
	}
	charge := func(id string, to func(*audit.Charge)) func(*audit.Evidence) {
		return func(e *audit.Evidence) { set(e.Charges, id, to) }
	}
	check(t, []plant{
		{name: "confirmed, not shipped", finding: finding, says: "order confirmed is confirmed: its reservation is reserved, must be shipped",
			evidence: reservation("confirmed", func(r *audit.Reservation) { r.State = "reserved" })},
		{name: "confirmed, nothing reserved", finding: finding, says: "order confirmed is confirmed: its reservation is none, must be shipped",
			evidence: func(e *audit.Evidence) { delete(e.Reservations, "confirmed") }},
		{name: "something else shipped", finding: finding, says: "order confirmed is confirmed: what was shipped is 3 MUG-BLUE, must be 2 MUG-BLUE",
			evidence: reservation("confirmed", func(r *audit.Reservation) { r.Lines = []events.Line{{SKU: "MUG-BLUE", Quantity: 3}} })},
		{name: "cancelled, still reserved", finding: finding, says: "order declined is cancelled: its reservation is reserved, must be none or rejected or released",
			evidence: reservation("declined", func(r *audit.Reservation) { r.State = "reserved" })},
		{name: "cancelled, not refunded", finding: finding, says: "order refused is cancelled: its payment is charged, must be none or declined or voided or refunded",
			evidence: func(e *audit.Evidence) {
				set(e.Payments, "refused", func(p *audit.Payment) { p.State, p.Refunded, p.RefundReference = "charged", 0, "" })
				set(e.Charges, "refused", func(c *audit.Charge) { c.State, c.RefundReference = "charged", "" })
			}, also: []string{audit.FindingTold}},
		{name: "refunded here, not outside", finding: finding, says: "order refused is cancelled: its charge at the provider is charged, must be refunded",
			evidence: charge("refused", func(c *audit.Charge) { c.State = "charged" })},
		{name: "charged outside for an order without a payment", finding: finding, says: "order out-of-stock is cancelled: its charge at the provider is charged, must be none",
			evidence: charge("out-of-stock", func(c *audit.Charge) { c.State = "charged" })},
		{name: "two amounts that cancel out", finding: finding, says: "order refused is cancelled: what the provider charged is {2600 EUR}, must be {2500 EUR}",
			evidence: func(e *audit.Evidence) {
				set(e.Charges, "refused", func(c *audit.Charge) { c.Amount.Amount += 100 })
				set(e.Charges, "silent", func(c *audit.Charge) { c.Amount.Amount -= 100 })
			}},
		{name: "another amount charged", finding: finding, says: "order confirmed is confirmed: what was charged is {1 EUR}, must be {2500 EUR}",
			evidence: payment("confirmed", func(p *audit.Payment) { p.Amount.Amount = 1 })},
		{name: "refunded in part", finding: finding, says: "order refused is cancelled: what was refunded is 2400, must be 2500",
			evidence: payment("refused", func(p *audit.Payment) { p.Refunded = 2400 })},
		{name: "another charge", finding: finding, says: "order confirmed is confirmed: the reference of the charge is ch_x, must be ch_confirmed",
			evidence: payment("confirmed", func(p *audit.Payment) { p.Reference = "ch_x" })},
		{name: "refunded twice", finding: finding, says: "order refused is cancelled: the reference of the refund is re_refused, must be re_second",
			evidence: charge("refused", func(c *audit.Charge) { c.RefundReference = "re_second" })},
		{name: "a charge whose answer was lost", evidence: payment("refused", func(p *audit.Payment) { p.Reference = "" })},
		{name: "cancelled, parcel on its way", finding: finding, says: "order called-off is cancelled: its parcel at the carrier is arranged, must be cancelled",
			evidence: func(e *audit.Evidence) { set(e.Parcels, "called-off", func(p *audit.Parcel) { p.State = "arranged" }) }},
		{name: "another parcel", finding: finding, says: "order confirmed is confirmed: the order's tracking number is SBXconfirmed, must be SBXother",
			evidence: func(e *audit.Evidence) {
				set(e.Shipments, "confirmed", func(s *audit.Shipment) { s.TrackingNumber = "SBXother" })
				set(e.Parcels, "confirmed", func(p *audit.Parcel) { p.TrackingNumber = "SBXother" })
			}},
		{name: "a step that was never asked for", finding: finding, says: "order out-of-stock: step charge_payment of its saga is skipped, and the participant says declined, must be none",
			evidence: func(e *audit.Evidence) {
				set(e.Payments, "out-of-stock", func(p *audit.Payment) { p.State = "declined" })
				set(e.Charges, "out-of-stock", func(c *audit.Charge) { c.State = "declined" })
			}},
		{name: "a reservation of nobody's", finding: finding, says: "there is a reservation for order gone, which does not exist",
			evidence: reservation("gone", func(r *audit.Reservation) { r.State = "released" })},
		{name: "a charge of nobody's", finding: finding, says: "there is a charge at the provider for order gone, which does not exist",
			evidence: charge("gone", func(c *audit.Charge) { c.State = "called_off" })},
	})
}

func TestSagas(t *testing.T) {
	const finding = audit.FindingSagas
	change := func(id string, to func(*evidence.Saga)) func(*audit.Evidence) {
		return func(e *audit.Evidence) { set(e.Sagas, id, to) }
	}
	check(t, []plant{
		{name: "a timer is left", finding: finding, says: "saga confirmed has a deadline left: 2030-01-01",
			evidence: change("confirmed", func(s *evidence.Saga) { s.Deadline = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{name: "a column disagrees", finding: finding, says: "saga confirmed is completed, its column says running",
			evidence: change("confirmed", func(s *evidence.Saga) { s.Column = saga.Running })},
		{name: "an end without its order's", finding: finding, says: "order confirmed is confirmed, and its saga compensated",
			evidence: change("confirmed", func(s *evidence.Saga) {
				s.Status, s.Column, s.Journal = saga.Compensated, saga.Compensated, slices.Clone(s.Journal)
				s.Journal[len(s.Journal)-1].Status = saga.Compensated
			})},
		{name: "an order without a saga", finding: finding, says: "order confirmed has no saga",
			evidence: func(e *audit.Evidence) { delete(e.Sagas, "confirmed") }},
		{name: "a saga without an order", finding: finding, says: "there is a saga for order gone, which does not exist",
			evidence: func(e *audit.Evidence) { e.Sagas["gone"] = e.Sagas["confirmed"] }},
		{name: "ended twice", finding: finding, says: "saga confirmed has ended 2 times in its journal",
			evidence: change("confirmed", func(s *evidence.Saga) { s.Journal = append(s.Journal, s.Journal[len(s.Journal)-1]) })},
		{name: "its table says something else", finding: finding, says: `order confirmed is confirmed of ada over REST, and "cancelled" of "ada" in its table`,
			evidence: func(e *audit.Evidence) {
				set(e.OrderRows, "confirmed", func(o *audit.OrderRow) { o.State = "cancelled" })
			}},
		{name: "an order that the list has not", finding: finding, says: "order gone is in its table and not in the list over REST",
			evidence: func(e *audit.Evidence) { set(e.OrderRows, "gone", func(o *audit.OrderRow) { o.State = "confirmed" }) }},
	})
}

func TestAnalytics(t *testing.T) {
	const finding = audit.FindingAnalytics
	check(t, []plant{
		{name: "an order in another state", finding: finding, says: "order confirmed is {OrderID:confirmed Customer:ada State:pending",
			evidence: func(e *audit.Evidence) { set(e.Seen, "confirmed", func(s *audit.Seen) { s.State = "pending" }) }},
		{name: "an order that was not seen", finding: finding, says: "order confirmed is {OrderID: ",
			evidence: func(e *audit.Evidence) { delete(e.Seen, "confirmed") }},
		{name: "an order that does not exist", finding: finding, says: "there is a row of analytics for order gone",
			evidence: func(e *audit.Evidence) { e.Seen["gone"] = audit.Seen{OrderID: "gone"} }},
		{name: "a customer's sums", finding: finding, says: "customer ada in EUR has {Orders:7 Confirmed:1 Cancelled:6 Spent:5000} to analytics, must be {Orders:7 Confirmed:1 Cancelled:6 Spent:2500}",
			evidence: func(e *audit.Evidence) {
				set(e.Customers, customer+" in EUR", func(s *audit.Sums) { s.Spent = 5000 })
			}},
		{name: "a customer of nobody's", finding: finding, says: "customer bob in EUR has",
			evidence: func(e *audit.Evidence) { e.Customers["bob in EUR"] = audit.Sums{Orders: 1} }},
	})
}

func TestHandled(t *testing.T) {
	const finding = audit.FindingHandled
	unmarked := func(w *world) { w.unmark("analytics", w.message("order.confirmed", "confirmed").ID) }
	letter := func(state letters.State) func(e *audit.Evidence) {
		return func(e *audit.Evidence) {
			e.Letters["analytics"] = []letters.Letter{{ID: "order.confirmed-0-0", State: state}}
		}
	}
	check(t, []plant{
		{name: "a message was not handled", world: unmarked, finding: finding, says: "analytics has not handled order.confirmed m-"},
		{name: "a dead letter waits", world: unmarked, evidence: letter(letters.StateWaiting)},
		{name: "a dead letter was redriven and not handled", world: unmarked, evidence: letter(letters.StateRedriven), finding: finding, says: "analytics has not handled order.confirmed m-"},
		{name: "a mark without a message", finding: finding, says: "order has marked message m-none, which stands in none of its topics",
			world: func(w *world) {
				set(w.e.Tables, "order", func(t *evidence.Tables) {
					t.Inbox = append(t.Inbox, evidence.Mark{Consumer: "order", MessageID: "m-none"})
				})
			}},
		{name: "a mark of another group", finding: finding, says: "the inbox of order has a mark of payment: m-1",
			world: func(w *world) {
				set(w.e.Tables, "order", func(t *evidence.Tables) {
					t.Inbox = append(t.Inbox, evidence.Mark{Consumer: "payment", MessageID: "m-1"})
				})
			}},
	})
}

func TestQuiet(t *testing.T) {
	const finding = audit.FindingQuiet
	check(t, []plant{
		{name: "unsent", finding: finding, says: "payment: payment.charged m-x of confirmed has not left the outbox for payment.charged",
			evidence: func(e *audit.Evidence) {
				set(e.Tables, "payment", func(t *evidence.Tables) {
					t.Outbox = []evidence.Outgoing{{ID: "m-x", Type: "payment.charged", Topic: "payment.charged", Key: "confirmed"}}
				})
			}},
		{name: "parked", finding: finding, says: "order: the message of confirmed at payment.charged-0-1 waits, parked by order, until its dead letter is handled",
			evidence: func(e *audit.Evidence) {
				set(e.Tables, "order", func(t *evidence.Tables) {
					t.Parked = []evidence.Parked{{ID: "payment.charged-0-1", Consumer: "order", Key: "confirmed", Attempts: 3, Blocked: true}}
				})
			}},
		{name: "behind", finding: finding, says: "is 2 records behind in ",
			evidence: func(e *audit.Evidence) { e.Lag[0].Partitions[0].Lag = 2 }},
		{name: "not at rest", finding: finding, says: "order.created/0 has grown from offset 7 to 8 while it was looked at",
			evidence: func(e *audit.Evidence) { e.Log.Ends[evidence.Partition{Topic: "order.created"}]++ }},
	})
}

// What the books say is part of the audit.
func TestBooks(t *testing.T) {
	t.Parallel()
	e := newWorld(t).evidence()
	e.Books = books.Audit{Findings: []books.Finding{{Name: "the books", Wrong: []string{"are off"}}}}
	found := audit.Judge(e, audit.Options{})
	require.False(t, found.OK)
	require.EqualError(t, found.Err(), "the books: are off")
}
