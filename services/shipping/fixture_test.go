package shipping_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/api/events"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/shipping"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier/sandbox"
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

func stack(t *testing.T) *testkit.Stack {
	t.Helper()
	return testkit.Start(t, kafka.Topics(events.TopicsOf(shipping.Name)))
}

func start(t *testing.T, settings ...string) (*testkit.Stack, *testkit.Service) {
	t.Helper()
	s := stack(t)
	return s, testkit.Run(s, shipping.Name, shipping.Run, append([]string{"CARRIER_SANDBOX_SLOW=50ms"}, settings...)...)
}

func arrange(order, city string) events.ShippingArrange {
	return events.ShippingArrange{
		OrderID: order, CustomerID: customer, Lines: events.List[events.Line]{{SKU: "MUG-BLUE", Quantity: 2}},
		Address: events.Address{Name: "Ada", Street: "Musterstrasse 1", PostalCode: "10115", City: city, Country: "DE"},
	}
}

func cancel(order string) events.ShippingCancel {
	return events.ShippingCancel{OrderID: order, CustomerID: customer, Reason: events.NewReason(events.ReasonCancelledByCustomer, "")}
}

// await returns the n-th answer of a type about an order, which must keep its contract.
func await[T event.Body](t *testing.T, s *testkit.Stack, order string, n int) (event.Event, T) {
	t.Helper()
	e, body := testkit.Await[T](s, order, n)
	require.NoError(t, events.Validate(e.Type, e.Data))
	require.Equal(t, "/orderflow/shipping", e.Source)
	return e, body
}

func get(t *testing.T, svc *testkit.Service, order string) shippingapi.Shipment {
	t.Helper()
	var shipment shippingapi.Shipment
	require.Equal(t, 200, svc.Get("/v1/shipments/"+order, &shipment))
	return shipment
}

// balanced checks that the service's books are these, and that the carrier's agree.
func balanced(t *testing.T, s *testkit.Stack, svc *testkit.Service, want shippingapi.ShipmentTotals) {
	t.Helper()
	var totals shippingapi.ShipmentTotals
	require.Equal(t, 200, svc.Get("/v1/shipments/totals", &totals))
	require.Equal(t, want, totals)
	require.Equal(t, sandbox.Counts{Arranged: want.Arranged, Cancelled: want.Cancelled}, books(t, s))
}

// books are the sandbox's own.
func books(t *testing.T, s *testkit.Stack) sandbox.Counts {
	t.Helper()
	db, err := database.Open(t.Context(), "sqlite:"+s.Database(shipping.Name))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	counts, err := sandbox.New(sandbox.Config{}, db, time.Now).Count(t.Context())
	require.NoError(t, err)
	return counts
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
