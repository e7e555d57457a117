package order_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/order"
)

// start runs the service; the test plays the participants.
func start(t *testing.T, settings ...string) (*testkit.Stack, *testkit.Service) {
	t.Helper()
	s := testkit.Start(t, kafka.Topics(events.TopicsOf("order")))
	return s, testkit.Run(s, "order", order.Run, settings...)
}

func request(customer string) orderapi.CreateOrderRequest {
	return orderapi.CreateOrderRequest{
		CustomerID: customer, PaymentMethod: "tok_approved",
		Lines:           []orderapi.Line{{SKU: "MUG-BLUE", Quantity: 2}, {SKU: "SPOON-SET", Quantity: 1}},
		ShippingAddress: orderapi.Address{Name: "A", Street: "S 1", PostalCode: "1", City: "Berlin", Country: "DE"},
	}
}

// place places an order and returns its id.
func place(t *testing.T, svc *testkit.Service, key string) string {
	t.Helper()
	resp, body := svc.Post("/v1/orders", request("c-1"), "Idempotency-Key: "+key)
	require.Equal(t, http.StatusAccepted, resp.StatusCode, body)
	require.Equal(t, `"1"`, resp.Header.Get("ETag"))
	return strings.TrimPrefix(resp.Header.Get("Location"), "/v1/orders/")
}

func await(svc *testkit.Service, id string, state orderapi.OrderState) orderapi.Order {
	return testkit.Eventually(svc, "/v1/orders/"+id, func(o orderapi.Order) bool { return o.State == state })
}

func TestConfirmed(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	id := place(t, svc, "k")

	created, body := testkit.Await[events.OrderCreated](s, id, 1)
	require.Equal(t, events.Money{Amount: 3490, Currency: "EUR"}, body.Total, "priced by the service")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	require.Equal(t, events.List[events.Line]{{SKU: "MUG-BLUE", Quantity: 2}, {SKU: "SPOON-SET", Quantity: 1}}, cmd.Lines)

	reserved := reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	charge, money := testkit.Await[events.PaymentCharge](s, id, 1)
	require.Equal(t, body.Total, money.Amount)
	reply(s, charge, id, events.PaymentCharged{OrderID: id, CustomerID: "c-1", PaymentID: "p", Amount: money.Amount, ProviderReference: "r"})
	arrange, _ := testkit.Await[events.ShippingArrange](s, id, 1)
	arranged := events.ShippingArranged{OrderID: id, CustomerID: "c-1", ShipmentID: "s", Carrier: "acme", TrackingNumber: "T1"}
	reply(s, arrange, id, arranged)

	confirmed, ending := testkit.Await[events.OrderConfirmed](s, id, 1)
	require.Equal(t, "T1", ending.TrackingNumber)
	require.EqualValues(t, 2, ending.Version)
	o := await(svc, id, orderapi.OrderStateConfirmed)
	require.Equal(t, "T1", *o.TrackingNumber)

	// The whole story hangs together.
	for _, e := range []event.Event{created, reserve, charge, arrange, confirmed} {
		require.Equal(t, id, e.CorrelationID)
		require.NoError(t, events.Validate(e.Type, e.Data))
	}
	require.Equal(t, created.CausationID, reserve.CausationID, "both are caused by the request")
	require.Equal(t, reserved.ID, charge.CausationID)

	// Too late to cancel; a duplicate of an answer changes nothing.
	resp, problem := svc.Post("/v1/orders/"+id+"/cancel", "")
	require.Equal(t, http.StatusConflict, resp.StatusCode, problem)
	require.Contains(t, problem, "shipping has been arranged")
	s.Resend(events.TopicInventoryReserved, reserved)
	testkit.Eventually(svc, "/v1/orders/"+id, func(orderapi.Order) bool {
		return svc.Metric(`consumer_duplicates_total{group="order"}`) >= 1
	})
	require.Len(t, s.Messages(events.TopicPaymentCommands, "payment.charge", id), 1)

	var timeline orderapi.Timeline
	require.Equal(t, http.StatusOK, svc.Get("/v1/orders/"+id+"/timeline", &timeline))
	require.Equal(t, orderapi.SagaStatusCompleted, timeline.Status)
	require.Len(t, timeline.Steps, 3)
	for _, step := range timeline.Steps {
		require.Equal(t, orderapi.StepStatusDone, step.Status)
		require.NotNil(t, step.EndedAt)
	}
}

// An answer that cannot be taken holds its order's later ones back, and no other order's.
func TestAnAnswerThatIsADeadLetterHoldsItsOrder(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "CONSUMER_MAX_ATTEMPTS=1")
	const ghost = "an-order-that-nobody-placed"
	lines := events.List[events.Line]{{SKU: "MUG-BLUE", Quantity: 1}}
	s.Send("/test", ghost, events.InventoryReserved{OrderID: ghost, Lines: lines})
	testkit.Until(s, "the key is held", func() bool { return svc.Metric(`parked_blocked_keys{group="order"}`) == 1 })
	s.Send("/test", ghost, events.InventoryReleased{OrderID: ghost, Lines: lines})
	testkit.Until(s, "the next waits behind it", func() bool { return svc.Metric(`parked_messages{group="order"}`) == 2 })

	id := place(t, svc, "k")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	testkit.Await[events.PaymentCharge](s, id, 1)

	type page struct {
		Items []struct {
			ID    string `json:"id"`
			Topic string `json:"topic"`
		} `json:"items"`
	}
	var letters page
	require.Equal(t, http.StatusOK, svc.Get("/admin/dead-letters?key="+ghost, &letters))
	require.Len(t, letters.Items, 1, "the second is held, and not given up too")
	resp, body := svc.Post("/admin/dead-letters/"+letters.Items[0].ID+"/discard", map[string]string{"actor": "tester", "reason": "nobody's"})
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	testkit.Eventually(svc, "/admin/dead-letters?key="+ghost, func(p page) bool { return len(p.Items) == 2 })
}

// reply publishes a participant's answer as it would: caused by the command.
func reply(s *testkit.Stack, command event.Event, key string, body event.Body) event.Event {
	return s.SendCaused("/test", event.Cause{ID: command.ID, CorrelationID: command.CorrelationID}, key, body)
}

func TestSilentParticipantIsCompensatedAndItsLateAnswerUndone(t *testing.T) {
	t.Parallel()
	s, svc := start(t, "SAGA_STEP_DEADLINE=300ms", "SAGA_UNDO_DEADLINE=300ms", "SAGA_TIMER_POLL=10ms")
	id := place(t, svc, "k")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)

	release, _ := testkit.Await[events.InventoryRelease](s, id, 1)
	require.Contains(t, release.CausationID, "deadline:reserve_stock:")
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines}) // late
	testkit.Await[events.InventoryRelease](s, id, 2)                               // unanswered, so asked again
	reply(s, release, id, events.InventoryReleased{OrderID: id, Lines: cmd.Lines})

	_, ending := testkit.Await[events.OrderCancelled](s, id, 1)
	require.Equal(t, events.ReasonTimedOut, ending.Reason.Code)
	require.Empty(t, s.Messages(events.TopicPaymentCommands, "payment.charge", id))
	require.Equal(t, events.ReasonTimedOut, await(svc, id, orderapi.OrderStateCancelled).Failure.Code)
}

func TestCancelUndoesWhatWasDone(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	id := place(t, svc, "k")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	testkit.Await[events.PaymentCharge](s, id, 1)

	resp, _ := svc.Post("/v1/orders/"+id+"/cancel", "", `If-Match: "7"`)
	require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode)
	for range 2 { // twice: the second changes nothing
		resp, body := svc.Post("/v1/orders/"+id+"/cancel", "")
		require.Equal(t, http.StatusAccepted, resp.StatusCode, body)
		require.Equal(t, `"2"`, resp.Header.Get("ETag"))
	}
	refund, _ := testkit.Await[events.PaymentRefund](s, id, 1)
	reply(s, refund, id, events.PaymentRefunded{OrderID: id, CustomerID: "c-1", Amount: events.Money{Currency: "EUR"}})
	release, _ := testkit.Await[events.InventoryRelease](s, id, 1)
	reply(s, release, id, events.InventoryReleased{OrderID: id, Lines: cmd.Lines})
	_, ending := testkit.Await[events.OrderCancelled](s, id, 1)
	require.Equal(t, events.ReasonCancelledByCustomer, ending.Reason.Code)
	require.Len(t, s.Messages(events.TopicPaymentCommands, "payment.refund", id), 1)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, _ := svc.Post("/v1/orders", request("c-1"), "Idempotency-Key: same")
			mu.Lock()
			defer mu.Unlock()
			ids[fmt.Sprint(resp.StatusCode, resp.Header.Get("Location"))]++
		})
	}
	wg.Wait()
	delete(ids, fmt.Sprint(http.StatusConflict, ""))
	require.Len(t, ids, 1, "one order, whoever asked: %v", ids)

	resp, _ := svc.Post("/v1/orders", request("c-1"), `Idempotency-Key: "same"`)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, "true", resp.Header.Get("Idempotency-Replayed"))
	other := request("c-1")
	other.Lines[0].Quantity++
	resp, body := svc.Post("/v1/orders", other, "Idempotency-Key: same")
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode, body)
	resp, _ = svc.Post("/v1/orders", request("c-1"))
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)

	var page orderapi.OrderPage
	require.Equal(t, http.StatusOK, svc.Get("/v1/orders?customer_id=c-1", &page))
	require.Len(t, page.Items, 1)
	testkit.Await[events.OrderCreated](s, page.Items[0].OrderID, 1)
}

func TestPages(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	want := map[string]bool{}
	for i := range 7 {
		want[place(t, svc, fmt.Sprint("k", i))] = true
	}
	got, path := map[string]bool{}, "/v1/orders?customer_id=c-1&state=pending&limit=3"
	for path != "" {
		var page orderapi.OrderPage
		require.Equal(t, http.StatusOK, svc.Get(path, &page))
		for _, o := range page.Items {
			require.False(t, got[o.OrderID], "twice")
			got[o.OrderID] = true
		}
		place(t, svc, fmt.Sprint("new", len(got))) // does not disturb the pages that follow
		path = ""
		if page.NextCursor != nil {
			path = "/v1/orders?customer_id=c-1&state=pending&limit=3&cursor=" + *page.NextCursor
		}
	}
	require.Equal(t, want, got)
	require.Equal(t, http.StatusBadRequest, svc.Get("/v1/orders?cursor=AAAA", nil))
}

func TestUnknownProducts(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	bad := request("c-1")
	bad.Lines = []orderapi.Line{{SKU: "NO-SUCH", Quantity: 1}, {SKU: "MUG-BLUE", Quantity: 1}, {SKU: "MUG-BLUE", Quantity: 1}}
	resp, body := svc.Post("/v1/orders", bad, "Idempotency-Key: k")
	require.Equal(t, http.StatusUnprocessableEntity, resp.StatusCode)
	require.Contains(t, body, `"path":"/lines/0/sku"`)
	require.Contains(t, body, `"path":"/lines/2/sku"`)
	var page orderapi.OrderPage
	svc.Get("/v1/orders", &page)
	require.Empty(t, page.Items, "nothing was written")
	place(t, svc, "k") // a refusal does not use up the key
}

// TestBadRecords: what cannot be understood is dead-lettered as it is, and its partition goes on.
func TestBadRecords(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	good := event.NewFactory("/test")
	unknown, err := good.New(context.Background(), events.TypeInventoryReserved, "no-such-order", events.InventoryReserved{
		OrderID: "no-such-order", Lines: []events.Line{{SKU: "A", Quantity: 1}},
	})
	require.NoError(t, err)
	s.SendRaw(kafka.Record{Topic: events.TopicInventoryReserved, Key: []byte("x"), Value: []byte("\x00not json\xff"), Headers: map[string]string{"a": "b"}})
	s.Resend(events.TopicInventoryReserved, unknown)
	broken := unknown
	broken.ID, broken.Key, broken.Data = "broken", "another", []byte(`{"order_id": 7}`)
	s.Resend(events.TopicInventoryReserved, broken)

	id := place(t, svc, "k")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	testkit.Await[events.PaymentCharge](s, id, 1)

	type page struct {
		Items []struct {
			ErrorType string `json:"error_type"`
			Topic     string
			State     string
		}
	}
	letters := testkit.Eventually(svc, "/admin/dead-letters", func(p page) bool { return len(p.Items) == 3 })
	kinds := map[string]int{}
	for _, l := range letters.Items {
		require.Equal(t, events.TopicInventoryReserved, l.Topic)
		kinds[l.ErrorType]++
	}
	require.Equal(t, map[string]int{"undecodable": 2, "permanent": 1}, kinds)
	for _, r := range s.Records(deadletter.Topic("order")) {
		if r.Headers["error-type"] == "undecodable" && r.Headers["a"] == "b" {
			require.Equal(t, "\x00not json\xff", string(r.Value))
			require.Equal(t, "x", string(r.Key))
		}
	}
}

// Answers that wait share a transaction, whose orders and sagas are read and written together; each order comes to the
// same as alone.
func TestAnswersShareTransactions(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, answersShareTransactions)
}

func answersShareTransactions(t *testing.T, url string) {
	t.Helper()
	s, svc := start(t, "DATABASE_URL="+url)
	const n = 60
	ids := make([]string, n)
	for i := range ids {
		ids[i] = place(t, svc, fmt.Sprint("k", i))
	}
	rejected := func(i int) bool { return i%3 == 0 }
	answer := func(topic string, of func(i int) (command event.Event, body event.Body)) {
		var all []event.Addressed
		for i, id := range ids {
			command, body := of(i)
			if body == nil {
				continue
			}
			ctx := event.WithCause(t.Context(), event.Cause{ID: command.ID, CorrelationID: command.CorrelationID})
			e, err := event.NewFactory("/test").New(ctx, body.EventType(), id, body)
			require.NoError(t, err)
			all = append(all, event.Addressed{Topic: body.EventTopic(), Event: e})
		}
		require.NotEmpty(t, all, topic)
		s.SendAll(all)
	}
	answer("stock", func(i int) (event.Event, event.Body) {
		command, cmd := testkit.Await[events.InventoryReserve](s, ids[i], 1)
		if rejected(i) {
			return command, events.InventoryRejected{OrderID: ids[i], Reason: events.NewReason(events.ReasonOutOfStock, "none left")}
		}
		return command, events.InventoryReserved{OrderID: ids[i], Lines: cmd.Lines}
	})
	answer("payment", func(i int) (event.Event, event.Body) {
		if rejected(i) {
			return event.Event{}, nil
		}
		command, cmd := testkit.Await[events.PaymentCharge](s, ids[i], 1)
		return command, events.PaymentCharged{OrderID: ids[i], CustomerID: "c-1", PaymentID: "p", Amount: cmd.Amount, ProviderReference: "r"}
	})
	answer("shipping", func(i int) (event.Event, event.Body) {
		if rejected(i) {
			return event.Event{}, nil
		}
		command, _ := testkit.Await[events.ShippingArrange](s, ids[i], 1)
		return command, events.ShippingArranged{OrderID: ids[i], CustomerID: "c-1", ShipmentID: "s", Carrier: "acme", TrackingNumber: "T" + ids[i]}
	})
	for i, id := range ids {
		if rejected(i) {
			o := await(svc, id, orderapi.OrderStateCancelled)
			require.EqualValues(t, events.ReasonOutOfStock, o.Failure.Code)
			continue
		}
		o := await(svc, id, orderapi.OrderStateConfirmed)
		require.Equal(t, "T"+id, *o.TrackingNumber)
		require.Len(t, s.Messages(events.TopicPaymentCommands, "payment.charge", id), 1)
		var timeline orderapi.Timeline
		require.Equal(t, http.StatusOK, svc.Get("/v1/orders/"+id+"/timeline", &timeline))
		require.Equal(t, orderapi.SagaStatusCompleted, timeline.Status)
	}
	require.Less(t, svc.Metric(`consumer_batch_size_count{group="order"}`), svc.Metric(`consumer_batch_size_sum{group="order"}`))
	require.Zero(t, svc.Metric(`consumer_batch_reruns_total{group="order",with="savepoints"}`))
	require.Empty(t, s.Records(deadletter.Topic("order")))
}
