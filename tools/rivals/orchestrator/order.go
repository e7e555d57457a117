package orchestrator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
)

// Currency is that of all prices.
const Currency = "EUR"

// Stock is how many pieces of each product there are at the beginning: enough for every benchmark.
const Stock = 1_000_000

// Product is a product with its price in cents.
type Product struct {
	SKU   string
	Price int64
}

// Products is the order service's catalogue.
func Products() []Product {
	return []Product{
		{"COFFEE-1KG", 1890}, {"GLOBE-RARE", 49900}, {"GRINDER-PRO", 15900}, {"KETTLE-STEEL", 5900},
		{"LAMP-LIMITED", 12900}, {"MUG-BLUE", 1250}, {"SPOON-SET", 990}, {"TEAPOT-RED", 3490},
	}
}

// Order is an order that has ended. Its state is Confirmed or Cancelled.
type Order struct {
	ID    string `json:"order_id"`
	State string `json:"state"`
}

// The states of an order that has ended.
const (
	Confirmed = "confirmed"
	Cancelled = "cancelled"
)

// What the services are asked, and what they answer.
type (
	reserve struct {
		OrderID string          `json:"order_id"`
		Lines   []orderapi.Line `json:"lines"`
	}
	release struct {
		OrderID string `json:"order_id"`
	}
	charge struct {
		OrderID    string `json:"order_id"`
		CustomerID string `json:"customer_id"`
		Method     string `json:"payment_method"`
		Amount     int64  `json:"amount"`
		Currency   string `json:"currency"`
	}
	arrange struct {
		OrderID    string           `json:"order_id"`
		CustomerID string           `json:"customer_id"`
		Address    orderapi.Address `json:"shipping_address"`
		Lines      []orderapi.Line  `json:"lines"`
	}
	outcome struct {
		State string `json:"state"`
	}
)

// orchestrator places orders.
type orchestrator struct {
	cfg    Config
	http   *http.Client
	prices map[string]int64
}

func newOrchestrator(cfg Config) *orchestrator {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, idleConnections
	o := &orchestrator{cfg: cfg, http: &http.Client{Transport: transport, Timeout: callTimeout}, prices: map[string]int64{}}
	for _, p := range Products() {
		o.prices[p.SKU] = p.Price
	}
	return o
}

// order is the whole saga. The client goes away, or this process does: what was done stays as it is.
func (o *orchestrator) order(w http.ResponseWriter, r *http.Request) {
	answer(func(ctx context.Context, q orderapi.CreateOrderRequest) (Order, error) {
		var amount int64
		for _, l := range q.Lines {
			price, ok := o.prices[l.SKU]
			if !ok {
				return Order{}, fmt.Errorf("there is no product %q", l.SKU)
			}
			amount += price * int64(l.Quantity)
		}
		order := Order{ID: uuid.Must(uuid.NewV7()).String(), State: Cancelled}
		state, err := o.call(ctx, o.cfg.Inventory+"/v1/reservations", reserve{OrderID: order.ID, Lines: q.Lines})
		if err != nil || state != stateReserved {
			return order, err
		}
		state, err = o.call(ctx, o.cfg.Payment+"/v1/payments", charge{
			OrderID: order.ID, CustomerID: q.CustomerID, Method: q.PaymentMethod, Amount: amount, Currency: Currency,
		})
		if err != nil {
			return order, err
		}
		if state != stateCharged {
			_, err := o.call(ctx, o.cfg.Inventory+"/v1/releases", release{OrderID: order.ID})
			return order, err
		}
		_, err = o.call(ctx, o.cfg.Shipping+"/v1/shipments", arrange{
			OrderID: order.ID, CustomerID: q.CustomerID, Address: q.ShippingAddress, Lines: q.Lines,
		})
		order.State = Confirmed
		return order, err
	})(w, r)
}

// call asks a service and returns the state that it answers.
func (o *orchestrator) call(ctx context.Context, url string, question any) (state string, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := o.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %.200s", url, res.Status, text)
	}
	var a outcome
	if err := json.Unmarshal(text, &a); err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	return a.State, nil
}
