package inventory_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/services/inventory"
)

func start(t *testing.T) (*testkit.Stack, *testkit.Service) {
	t.Helper()
	s := testkit.Start(t, kafka.Topics(events.TopicsOf("inventory")))
	return s, testkit.Run(s, "inventory", inventory.Run)
}

func reserve(s *testkit.Stack, id, sku string, quantity int) {
	s.Send("/test", id, events.InventoryReserve{OrderID: id, Lines: []events.Line{{SKU: sku, Quantity: quantity}}})
}

func release(s *testkit.Stack, id string) {
	s.Send("/test", id, events.InventoryRelease{OrderID: id, Reason: events.NewReason("test", "")})
}

func awaitStock(svc *testkit.Service, want inventoryapi.Stock) {
	testkit.Eventually(svc, "/v1/stock/"+want.SKU, func(got inventoryapi.Stock) bool { return got == want })
}

func TestReserveReleaseShip(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	reserve(s, "a", "LAMP-LIMITED", 2)
	e, reserved := testkit.Await[events.InventoryReserved](s, "a", 1)
	require.NoError(t, events.Validate(e.Type, e.Data))
	require.Equal(t, events.List[events.Line]{{SKU: "LAMP-LIMITED", Quantity: 2}}, reserved.Lines)
	reserve(s, "a", "LAMP-LIMITED", 2) // another command for the same order
	testkit.Await[events.InventoryReserved](s, "a", 2)
	awaitStock(svc, inventoryapi.Stock{SKU: "LAMP-LIMITED", Received: 5, Available: 3, Reserved: 2})

	release(s, "a")
	testkit.Await[events.InventoryReleased](s, "a", 1)
	release(s, "a")
	testkit.Await[events.InventoryReleased](s, "a", 2)
	awaitStock(svc, inventoryapi.Stock{SKU: "LAMP-LIMITED", Received: 5, Available: 5})

	reserve(s, "b", "LAMP-LIMITED", 4)
	testkit.Await[events.InventoryReserved](s, "b", 1)
	confirmed := events.OrderConfirmed{OrderID: "b", CustomerID: "c", Version: 2, Total: events.Money{Amount: 1, Currency: "EUR"}, TrackingNumber: "T", Carrier: "x"}
	s.Resend(events.TopicOrderConfirmed, s.Send("/test", "b", confirmed)) // twice
	awaitStock(svc, inventoryapi.Stock{SKU: "LAMP-LIMITED", Received: 5, Available: 1, Shipped: 4})

	var r inventoryapi.Reservation
	require.Equal(t, http.StatusOK, svc.Get("/v1/reservations/b", &r))
	require.Equal(t, inventoryapi.ReservationStateShipped, r.State)
	require.Equal(t, http.StatusNotFound, svc.Get("/v1/reservations/none", nil))
}

// TestTombstone: a release that comes before its reserve refuses the reserve (invariant 5).
func TestTombstone(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	release(s, "a")
	e, released := testkit.Await[events.InventoryReleased](s, "a", 1)
	require.Empty(t, released.Lines)
	require.NoError(t, events.Validate(e.Type, e.Data))
	reserve(s, "a", "LAMP-LIMITED", 1)
	_, rejected := testkit.Await[events.InventoryRejected](s, "a", 1)
	require.Equal(t, "cancelled", rejected.Reason.Code)
	awaitStock(svc, inventoryapi.Stock{SKU: "LAMP-LIMITED", Received: 5, Available: 5})
}

// TestNeverOversold: more orders at once than there is stock for.
func TestNeverOversold(t *testing.T) {
	t.Parallel()
	s, svc := start(t)
	const orders = 20
	for i := range orders {
		reserve(s, fmt.Sprint("o", i), "LAMP-LIMITED", 1)
	}
	reserved, rejected := 0, 0
	for i := range orders {
		id := fmt.Sprint("o", i)
		r := testkit.Eventually(svc, "/v1/reservations/"+id, func(inventoryapi.Reservation) bool { return true })
		switch r.State {
		case inventoryapi.ReservationStateReserved:
			reserved++
		case inventoryapi.ReservationStateRejected:
			rejected++
		}
	}
	require.Equal(t, 5, reserved)
	require.Equal(t, orders-5, rejected)
	awaitStock(svc, inventoryapi.Stock{SKU: "LAMP-LIMITED", Received: 5, Reserved: 5})
	_, shortage := testkit.Await[events.InventoryRejected](s, rejectedOrder(t, svc, orders), 1)
	require.Equal(t, events.List[events.Shortage]{{SKU: "LAMP-LIMITED", Requested: 1, Available: 0}}, shortage.Shortages)
}

func rejectedOrder(t *testing.T, svc *testkit.Service, orders int) string {
	t.Helper()
	for i := range orders {
		var r inventoryapi.Reservation
		svc.Get(fmt.Sprint("/v1/reservations/o", i), &r)
		if r.State == inventoryapi.ReservationStateRejected {
			return r.OrderID
		}
	}
	require.FailNow(t, "no order was rejected")
	return ""
}

func TestRestock(t *testing.T) {
	t.Parallel()
	_, svc := start(t)
	for range 2 { // the second is a replay
		resp, body := svc.Post("/v1/stock/GLOBE-RARE/restock", `{"quantity": 3}`, "Idempotency-Key: k")
		require.Equal(t, http.StatusOK, resp.StatusCode, body)
	}
	awaitStock(svc, inventoryapi.Stock{SKU: "GLOBE-RARE", Received: 3, Available: 3})
	for body, field := range map[string]string{
		`{"quantity": 0}`: "/quantity", `{"quantity": -1}`: "/quantity", `{"quantity": 1e300}`: "/quantity",
		`{"quantity": 1, "sku": "x"}`: "/sku", `{}`: "/quantity",
	} {
		resp, problem := svc.Post("/v1/stock/GLOBE-RARE/restock", body, "Idempotency-Key: bad")
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s: %s", body, problem)
		require.Contains(t, problem, fmt.Sprintf("%q:%q", "path", field), body)
	}
	resp, _ := svc.Post("/v1/stock/NO-SUCH/restock", `{"quantity": 3}`, "Idempotency-Key: other")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	awaitStock(svc, inventoryapi.Stock{SKU: "GLOBE-RARE", Received: 3, Available: 3})
}
