package order_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/testkit"
)

const by = `{"actor":"ada","reason":"the warehouse is back"}`

// awaitSaga waits until a saga is in a state.
func awaitSaga(svc *testkit.Service, id string, state orderapi.SagaStatus) orderapi.SagaDetail {
	return testkit.Eventually(svc, "/admin/sagas/"+id, func(d orderapi.SagaDetail) bool { return d.Saga.State == state })
}

func ifMatch(version int64) string { return fmt.Sprintf(`If-Match: "%d"`, version) }

func press(t *testing.T, svc *testkit.Service, id, verb, body string, version int64) (status int, text string) {
	t.Helper()
	resp, text := svc.Post("/admin/sagas/"+id+"/"+verb, body, ifMatch(version))
	return resp.StatusCode, text
}

// stuck is a service with an order whose stock is not released, however often that is asked for.
func stuck(t *testing.T, settings ...string) (s *testkit.Stack, svc *testkit.Service, id string) {
	t.Helper()
	s, svc = start(t, append([]string{"SAGA_UNDO_DEADLINE=100ms", "SAGA_UNDO_ATTEMPTS=2", "SAGA_TIMER_POLL=10ms", "LAG_INTERVAL=100ms"}, settings...)...)
	participantsRead(t, s)
	id = place(t, svc, "stuck")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	charge, _ := testkit.Await[events.PaymentCharge](s, id, 1)
	reply(s, charge, id, events.PaymentDeclined{OrderID: id, CustomerID: "c-1", Reason: events.NewReason(events.ReasonPaymentDeclined, "no money")})
	awaitSaga(svc, id, orderapi.SagaStatusCompensationFailed)
	return s, svc, id
}

func gauge(svc *testkit.Service) float64 {
	return svc.Metric(`sagas_compensation_failed{definition="order"}`)
}

// TestOperatorMendsASaga: a compensation that is given up is a state that is seen, blocks no other, and is mended by
// verbs that act once however often they are pressed.
func TestOperatorMendsASaga(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		s, svc, id := stuck(t, "DATABASE_URL="+url)
		testkit.Until(s, "the gauge shows it", func() bool { return gauge(svc) == 1 })
		other := place(t, svc, "other")
		testkit.Await[events.InventoryReserve](s, other, 1)

		shown := awaitSaga(svc, id, orderapi.SagaStatusCompensationFailed)
		require.Equal(t, "step reserve_stock did not answer to 2 undo commands", *shown.Saga.Trouble)
		require.Equal(t, events.ReasonPaymentDeclined, shown.Saga.Failure.Code)
		require.Equal(t, "undo reserve_stock", commandsOf(shown.Left))
		require.Equal(t, "do reserve_stock", commandsOf(shown.Done))
		require.Equal(t, orderapi.SagaCommandKindUndo, shown.Saga.WaitsFor.Command)
		require.Nil(t, shown.Saga.WaitsFor.Until, "nobody waits any more")
		require.Len(t, shown.May, 2)
		require.Equal(t, orderapi.SagaVerbVerbRetry, shown.May[0].Verb)
		require.Equal(t, "undo reserve_stock", commandsOf(shown.May[0].Sends))
		require.Equal(t, orderapi.SagaVerbVerbSkip, shown.May[1].Verb)
		require.Equal(t, orderapi.SagaStatusCompensated, shown.May[1].State)

		var listed orderapi.SagaPage
		require.Equal(t, http.StatusOK, svc.Get("/admin/sagas?state=compensation_failed&step=reserve_stock&error=payment_declined", &listed))
		require.Len(t, listed.Items, 1)
		require.Equal(t, id, listed.Items[0].SagaID)

		// Retried, it is asked for again as often as at first, and pressed twice it is so once.
		v := shown.Saga.Version
		for range 2 {
			status, body := press(t, svc, id, "retry", by, v)
			require.Equal(t, http.StatusOK, status, body)
		}
		testkit.Await[events.InventoryRelease](s, id, 4)
		again := awaitSaga(svc, id, orderapi.SagaStatusCompensationFailed)
		require.Len(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryRelease, id), 4)

		// Skipped, the saga ends.
		skip := `{"actor":"ada","reason":"put back by hand","step":"reserve_stock"}`
		v = again.Saga.Version
		for range 2 {
			status, body := press(t, svc, id, "skip", skip, v)
			require.Equal(t, http.StatusOK, status, body)
		}
		_, ending := testkit.Await[events.OrderCancelled](s, id, 1)
		require.Equal(t, events.ReasonPaymentDeclined, ending.Reason.Code)
		await(svc, id, orderapi.OrderStateCancelled)
		testkit.Until(s, "the gauge is back", func() bool { return gauge(svc) == 0 })

		var timeline orderapi.Timeline
		require.Equal(t, http.StatusOK, svc.Get("/v1/orders/"+id+"/timeline", &timeline))
		require.Equal(t, orderapi.StepStatusSkipped, timeline.Steps[0].Status)
		require.True(t, *timeline.Steps[0].UndoSkipped)
		require.Equal(t, "request", timeline.Entries[0].Kind)
		var told []string
		for _, e := range timeline.Entries {
			if *e.Cause != "" && (e.Kind == "operator" || e.Kind == "finished" || e.Kind == "command_sent" || e.Kind == "request") {
				told = append(told, e.Text+" <- "+*e.Cause)
			}
		}
		require.Equal(t, []string{
			"order placed: 3 pieces, 34.90 EUR <- a request of customer c-1",
			"command sent do reserve_stock #1 <- started",
			"command sent do charge_payment #1 <- reply reserve_stock: done",
			"command sent undo reserve_stock #1 (payment_declined) <- reply charge_payment: failed (payment_declined, no money)",
			"command sent undo reserve_stock #2 (payment_declined) <- deadline passed undo reserve_stock #1",
			"operator retry reserve_stock (the warehouse is back) by ada <- operator ada",
			"command sent undo reserve_stock #3 (payment_declined) <- operator retry reserve_stock (the warehouse is back) by ada",
			"command sent undo reserve_stock #4 (payment_declined) <- deadline passed undo reserve_stock #3",
			"operator skip reserve_stock (put back by hand) by ada <- operator ada",
			"finished: compensated (payment_declined) <- operator skip reserve_stock (put back by hand) by ada",
		}, told)
		require.Len(t, s.Messages(events.TopicOrderCancelled, events.TypeOrderCancelled, id), 1)
	})
}

func commandsOf(all []orderapi.SagaCommand) string {
	texts := make([]string, len(all))
	for i, c := range all {
		texts[i] = string(c.Command) + " " + c.Step
	}
	return strings.Join(texts, ", ")
}

// TestOperatorIsRefused: what cannot be done is said with what would be right, and changes nothing.
func TestOperatorIsRefused(t *testing.T) {
	t.Parallel()
	_, svc, id := stuck(t)
	before := awaitSaga(svc, id, orderapi.SagaStatusCompensationFailed)
	v := before.Saga.Version
	for _, tc := range []struct {
		name, id, verb, body, header string
		status                       int
		says                         string
	}{
		{name: "unknown saga", id: "nobody", verb: "retry", body: by, header: ifMatch(1), status: 404, says: "there is no saga nobody"},
		{name: "no version", verb: "retry", body: by, header: "X-No: version", status: 428, says: "If-Match"},
		{name: "any version", verb: "retry", body: by, header: "If-Match: *", status: 400, says: "If-Match"},
		{name: "version without quotes", verb: "retry", body: by, header: fmt.Sprint("If-Match: ", v), status: 400, says: "If-Match"},
		{name: "stale version", verb: "retry", body: by, header: ifMatch(v - 1), status: 412, says: fmt.Sprintf("it is at version %d, not %d", v, v-1)},
		{name: "version to come", verb: "skip", body: `{"actor":"a","reason":"b","step":"reserve_stock"}`, header: ifMatch(v + 1), status: 412, says: "look at it again"},
		{name: "empty reason", verb: "retry", body: `{"actor":"ada","reason":""}`, header: ifMatch(v), status: 400, says: "/reason"},
		{name: "blank reason", verb: "compensate", body: `{"actor":"ada","reason":"  "}`, header: ifMatch(v), status: 400, says: "/reason"},
		{name: "no actor", verb: "retry", body: `{"reason":"why"}`, header: ifMatch(v), status: 400, says: "actor"},
		{name: "unknown field", verb: "retry", body: `{"actor":"a","reason":"b","force":true}`, header: ifMatch(v), status: 400, says: "force"},
		{name: "no body", verb: "retry", body: ``, header: ifMatch(v), status: 400, says: "body"},
		{name: "skip without a step", verb: "skip", body: by, header: ifMatch(v), status: 400, says: "step"},
		{name: "skip an unknown step", verb: "skip", body: `{"actor":"a","reason":"b","step":"ship_it"}`, header: ifMatch(v), status: 422, says: "its steps are reserve_stock, charge_payment, arrange_shipping"},
		{name: "unknown saga to skip in", id: "nobody", verb: "skip", body: `{"actor":"a","reason":"b","step":"reserve_stock"}`, header: ifMatch(1), status: 404, says: "there is no saga nobody"},
		{name: "unknown saga to compensate", id: "nobody", verb: "compensate", body: by, header: ifMatch(1), status: 404, says: "there is no saga nobody"},
		{name: "id too long", id: strings.Repeat("x", 65), verb: "retry", body: by, header: ifMatch(1), status: 400, says: "must have at most 64 characters"},
		{name: "version zero", verb: "retry", body: by, header: ifMatch(0), status: 400, says: "If-Match"},
		{name: "version too large for a number", verb: "retry", body: by, header: `If-Match: "` + strings.Repeat("9", 19) + `"`, status: 400, says: "If-Match"},
		{name: "reason too long", verb: "retry", body: `{"actor":"a","reason":"` + strings.Repeat("x", 10_000) + `"}`, header: ifMatch(v), status: 400, says: "/reason"},
		{name: "blank actor", verb: "retry", body: `{"actor":" ","reason":"b"}`, header: ifMatch(v), status: 400, says: "/actor"},
		{name: "no JSON", verb: "retry", body: `actor=ada`, header: ifMatch(v), status: 400, says: "JSON"},
		{name: "step of wrong letters", verb: "skip", body: `{"actor":"a","reason":"b","step":"Reserve Stock"}`, header: ifMatch(v), status: 400, says: "/step"},
		{name: "skip a step that failed", verb: "skip", body: `{"actor":"a","reason":"b","step":"charge_payment"}`, header: ifMatch(v), status: 409, says: "step charge_payment is failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := id
			if tc.id != "" {
				target = tc.id
			}
			resp, body := svc.Post("/admin/sagas/"+target+"/"+tc.verb, tc.body, tc.header)
			require.Equal(t, tc.status, resp.StatusCode, body)
			require.Contains(t, body, tc.says)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
		})
	}
	var after orderapi.SagaDetail
	require.Equal(t, http.StatusOK, svc.Get("/admin/sagas/"+id, &after))
	require.Equal(t, before, after)
	for path, where := range map[string]string{
		"?state=broken": "state", "?state=": "state", "?limit=0": "limit", "?limit=101": "limit", "?cursor=AAAA": "cursor",
		"?started_before=yesterday": "started_before", "?step=Ship%20it": "step", "?error=" + strings.Repeat("e", 65): "error", "/no%20id": "saga_id",
	} {
		resp, err := http.Get(svc.URL + "/admin/sagas" + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, path)
		require.Contains(t, string(body), where, path)
	}
	require.Equal(t, http.StatusNotFound, svc.Get("/admin/sagas/nobody", nil))
}

// TestOperatorCompensates: a running saga is undone as at a customer's word, once; a completed one is not.
func TestOperatorCompensates(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	id := place(t, svc, "k")
	reserve, cmd := testkit.Await[events.InventoryReserve](s, id, 1)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	charge, money := testkit.Await[events.PaymentCharge](s, id, 1)
	running := awaitSaga(svc, id, orderapi.SagaStatusRunning)
	require.Equal(t, "do charge_payment, do arrange_shipping", commandsOf(running.Left))

	status, body := press(t, svc, id, "skip", `{"actor":"a","reason":"b","step":"charge_payment"}`, running.Saga.Version)
	require.Equal(t, http.StatusConflict, status, "what comes after relies on it: %s", body)
	for range 2 {
		status, body = press(t, svc, id, "compensate", by, running.Saga.Version)
		require.Equal(t, http.StatusOK, status, body)
	}
	fresh := awaitSaga(svc, id, orderapi.SagaStatusCompensating)
	status, _ = press(t, svc, id, "compensate", by, fresh.Saga.Version)
	require.Equal(t, http.StatusOK, status, "its effect is there already")
	refund, _ := testkit.Await[events.PaymentRefund](s, id, 1)
	require.Equal(t, events.ReasonCancelledByOperator, refundReason(s, id))
	reply(s, refund, id, events.PaymentRefunded{OrderID: id, CustomerID: "c-1", Amount: money.Amount})
	release, _ := testkit.Await[events.InventoryRelease](s, id, 1)
	reply(s, release, id, events.InventoryReleased{OrderID: id, Lines: cmd.Lines})
	require.Equal(t, events.ReasonCancelledByOperator, await(svc, id, orderapi.OrderStateCancelled).Failure.Code)
	require.Len(t, s.Messages(events.TopicPaymentCommands, events.TypePaymentRefund, id), 1)
	reply(s, charge, id, events.PaymentCharged{OrderID: id, CustomerID: "c-1", PaymentID: "p", Amount: money.Amount, ProviderReference: "r"})

	id = place(t, svc, "k2")
	reserve, cmd = testkit.Await[events.InventoryReserve](s, id, 1)
	// An operator has it asked once more; who answers twice is taken once.
	waiting := awaitSaga(svc, id, orderapi.SagaStatusRunning)
	for range 2 {
		status, body = press(t, svc, id, "retry", by, waiting.Saga.Version)
		require.Equal(t, http.StatusOK, status, body)
	}
	retried, _ := testkit.Await[events.InventoryReserve](s, id, 2)
	reply(s, reserve, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	reply(s, retried, id, events.InventoryReserved{OrderID: id, Lines: cmd.Lines})
	charge, money = testkit.Await[events.PaymentCharge](s, id, 1)
	reply(s, charge, id, events.PaymentCharged{OrderID: id, CustomerID: "c-1", PaymentID: "p", Amount: money.Amount, ProviderReference: "r"})
	arrange, _ := testkit.Await[events.ShippingArrange](s, id, 1)
	reply(s, arrange, id, events.ShippingArranged{OrderID: id, CustomerID: "c-1", ShipmentID: "s", Carrier: "acme", TrackingNumber: "T1"})
	await(svc, id, orderapi.OrderStateConfirmed)
	require.Len(t, s.Messages(events.TopicInventoryCommands, events.TypeInventoryReserve, id), 2)
	require.Len(t, s.Messages(events.TopicPaymentCommands, events.TypePaymentCharge, id), 1)
	ended := awaitSaga(svc, id, orderapi.SagaStatusCompleted)
	require.Empty(t, ended.May)
	require.Empty(t, ended.Left)
	for _, verb := range []string{"compensate", "retry"} {
		status, body = press(t, svc, id, verb, by, ended.Saga.Version)
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, body, "it is completed")
	}
}

func refundReason(s *testkit.Stack, id string) string {
	_, cmd := testkit.Await[events.PaymentRefund](s, id, 1)
	return cmd.Reason.Code
}

// TestPagesOfSagas: each saga is on one page, whatever is begun meanwhile.
func TestPagesOfSagas(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	var want, got []string
	for i := range 5 {
		want = append(want, place(t, svc, fmt.Sprint("k", i)))
	}
	for path := "/admin/sagas?limit=2&state=running&state=compensating"; path != ""; {
		var page orderapi.SagaPage
		require.Equal(t, http.StatusOK, svc.Get(path, &page))
		for _, saga := range page.Items {
			got = append(got, saga.SagaID)
		}
		if len(got) == 2 {
			want = append(want, place(t, svc, "new"))
		}
		path = ""
		if page.NextCursor != nil {
			path = "/admin/sagas?limit=2&state=running&state=compensating&cursor=" + *page.NextCursor
		}
	}
	require.Equal(t, want, got)
	var none orderapi.SagaPage
	require.Equal(t, http.StatusOK, svc.Get("/admin/sagas?started_before=2020-01-01T00:00:00Z", &none))
	require.Empty(t, none.Items)
}
