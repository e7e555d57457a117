package payment_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/api/events"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/payment"
	"github.com/orderflow/orderflow/services/payment/internal/provider/sandbox"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-metrics, which sarama counts with, starts one ticker a process and never stops it.
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),
		// Idle connections of the tests' own client.
		goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
	)
}

const (
	source   = "/orderflow/order"
	customer = "cust-42"
)

var price = events.Money{Amount: 2500, Currency: "EUR"}

func stack(t *testing.T) *testkit.Stack {
	t.Helper()
	return testkit.Start(t, kafka.Topics(events.TopicsOf(payment.Name)))
}

func start(t *testing.T, settings ...string) (*testkit.Stack, *testkit.Service) {
	t.Helper()
	s := stack(t)
	return s, testkit.Run(s, payment.Name, payment.Run, append([]string{"PAYMENT_SANDBOX_SLOW=50ms"}, settings...)...)
}

func charge(order, method string) events.PaymentCharge {
	return events.PaymentCharge{OrderID: order, CustomerID: customer, Amount: price, PaymentMethod: method}
}

func refund(order string) events.PaymentRefund {
	return events.PaymentRefund{
		OrderID: order, CustomerID: customer, Amount: price, Reason: events.NewReason(events.ReasonCancelledByCustomer, ""),
	}
}

// await returns the n-th answer of a type about an order, which must keep its contract.
func await[T event.Body](t *testing.T, s *testkit.Stack, order string, n int) (event.Event, T) {
	t.Helper()
	e, body := testkit.Await[T](s, order, n)
	require.NoError(t, events.Validate(e.Type, e.Data))
	require.Equal(t, "/orderflow/payment", e.Source)
	return e, body
}

func get(t *testing.T, svc *testkit.Service, order string) paymentapi.Payment {
	t.Helper()
	var p paymentapi.Payment
	require.Equal(t, 200, svc.Get("/v1/payments/"+order, &p))
	return p
}

// balanced checks that the service's books are these, and that the provider's are the same.
func balanced(t *testing.T, svc *testkit.Service, want paymentapi.CurrencyTotals) {
	t.Helper()
	want.Currency = "EUR"
	var totals paymentapi.PaymentTotals
	require.Equal(t, 200, svc.Get("/v1/payments/totals", &totals))
	require.Equal(t, []paymentapi.CurrencyTotals{want}, totals.Currencies)
	require.NotNil(t, totals.Provider)
	require.Equal(t, totals.Currencies, *totals.Provider)
}

type letter struct {
	ID        string `json:"id"`
	EventID   string `json:"event_id"`
	ErrorType string `json:"error_type"`
	Error     string `json:"error"`
	Retries   int    `json:"retries"`
	State     string `json:"state"`
}

// letters waits until the service lists n dead letters.
func letters(svc *testkit.Service, n int) []letter {
	type page struct{ Items []letter }
	return testkit.Eventually(svc, "/admin/dead-letters", func(p page) bool { return len(p.Items) == n }).Items
}

func redrive(t *testing.T, svc *testkit.Service, id string) {
	t.Helper()
	response, body := svc.Post("/admin/dead-letters/"+id+"/redrive", map[string]string{"actor": "ada", "reason": "try again"})
	require.Equal(t, 202, response.StatusCode, body)
	testkit.Eventually(svc, "/admin/dead-letters/"+id, func(l letter) bool { return l.State == "redriven" })
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

var approved = sandbox.TokenApproved
