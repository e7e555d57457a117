package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tests/internal/shop"
	"github.com/orderflow/orderflow/tools/client"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	key, body := c.NewID("key"), shop.JSON(t, c.Request())
	post := func(body []byte, key string) shop.Answer {
		return system.Send(t, http.MethodPost, "order", "/v1/orders", body, "Idempotency-Key", key)
	}
	first := post(body, key)
	require.Equal(t, http.StatusAccepted, first.Status, "%s", first.Body)
	var o orderapi.Order
	require.NoError(t, json.Unmarshal(first.Body, &o))
	c.Await(o.OrderID)

	// The same answer, also when the order has gone on; quotes and the body's spelling do not matter.
	var spelt map[string]any
	require.NoError(t, json.Unmarshal(body, &spelt))
	for _, again := range []shop.Answer{
		post(body, key), post(body, `"`+key+`"`), post(shop.JSON(t, spelt), key),
	} {
		require.Equal(t, first.Status, again.Status, "%s", again.Body)
		require.JSONEq(t, string(first.Body), string(again.Body))
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
		require.Equal(t, first.Header.Get("ETag"), again.Header.Get("ETag"))
	}
	post(shop.JSON(t, c.Request(shop.Of(3, "MUG-BLUE"))), key).Problem(t, http.StatusUnprocessableEntity)
	post(body, "").Problem(t, http.StatusBadRequest)

	all, err := system.AllOrders(shop.Context(t), c.ID)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// TestOneOrderForManyPosts sends one request fifty times at once.
func TestOneOrderForManyPosts(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	ctx, key, request := shop.Context(t), c.NewID("key"), c.Request()
	const posts = 50
	type answer struct {
		id     string
		status int
		err    error
	}
	answers := make(chan answer, posts)
	var wait sync.WaitGroup
	for range posts {
		wait.Go(func() {
			a, err := system.Orders.CreateOrderWithResponse(ctx, &orderapi.CreateOrderParams{IdempotencyKey: key}, request)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			got := answer{status: a.StatusCode()}
			if a.JSON202 != nil {
				got.id = a.JSON202.OrderID
			}
			answers <- got
		})
	}
	wait.Wait()
	close(answers)
	ids := map[string]bool{}
	for a := range answers {
		require.NoError(t, a.err)
		require.Contains(t, []int{http.StatusAccepted, http.StatusConflict}, a.status)
		if a.id != "" {
			ids[a.id] = true
		}
	}
	require.Len(t, ids, 1)
	all, err := system.AllOrders(ctx, c.ID)
	require.NoError(t, err)
	require.Len(t, all, 1)
	shop.Confirmed(t, c.Await(all[0].OrderID))
}

func TestRestockOnceAKey(t *testing.T) {
	t.Parallel()
	ctx, key := shop.Context(t), system.NewID("key")
	before, err := system.Stock(ctx)
	require.NoError(t, err)
	first, err := system.Restock(ctx, key, "TEAPOT-RED", 7)
	require.NoError(t, err)
	again, err := system.Restock(ctx, key, "TEAPOT-RED", 7)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, before["TEAPOT-RED"].Received+7, first.Received, "this is the only test that restocks it")
	_, err = system.Restock(ctx, key, "TEAPOT-RED", 8)
	var refused *client.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnprocessableEntity, refused.Status)
}

var nextLink = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

// TestPagesWhileOrdersArrive walks through a customer's orders while new ones are placed: what was there when the walk
// began comes exactly once.
func TestPagesWhileOrdersArrive(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	before := map[string]bool{}
	for range 23 {
		before[c.Place().OrderID] = true
	}
	seen := map[string]int{}
	path := "/v1/orders?limit=4&customer_id=" + c.ID
	for pages := 0; path != ""; pages++ {
		require.Less(t, pages, 30, "the pages have no end")
		a := system.Send(t, http.MethodGet, "order", path, nil)
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		var page orderapi.OrderPage
		require.NoError(t, json.Unmarshal(a.Body, &page))
		for _, o := range page.Items {
			seen[o.OrderID]++
			require.Equal(t, c.ID, o.CustomerID)
		}
		path = ""
		if page.NextCursor != nil {
			link := nextLink.FindStringSubmatch(a.Header.Get("Link"))
			require.NotNil(t, link, "Link is %q", a.Header.Get("Link"))
			u, err := url.Parse(link[1])
			require.NoError(t, err)
			require.Equal(t, *page.NextCursor, u.Query().Get("cursor"))
			require.Equal(t, c.ID, u.Query().Get("customer_id"))
			path = u.RequestURI()
		} else {
			require.Empty(t, a.Header.Get("Link"))
		}
		c.Place()
	}
	for id := range before {
		require.Equal(t, 1, seen[id], "order %s", id)
	}
	for id, n := range seen {
		require.Equal(t, 1, n, "order %s", id)
	}

	// A cursor cannot be made up or bent.
	limit := 4
	a, err := system.Orders.ListOrdersWithResponse(shop.Context(t), &orderapi.ListOrdersParams{CustomerID: &c.ID, Limit: &limit})
	require.NoError(t, err)
	cursor := *a.JSON200.NextCursor
	for _, bad := range []string{cursor[1:], cursor[:len(cursor)-2], strings.ToUpper(cursor), "djE6MTcwMDAw", "x"} {
		if bad == cursor {
			continue
		}
		system.Send(t, http.MethodGet, "order", "/v1/orders?cursor="+url.QueryEscape(bad), nil).Problem(t, http.StatusBadRequest)
	}
}

func TestListByState(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	good, bad := c.Buy(), c.Buy(shop.Paying("tok_declined"))
	for state, want := range map[orderapi.OrderState]string{"confirmed": good.OrderID, "cancelled": bad.OrderID} {
		a, err := system.Orders.ListOrdersWithResponse(shop.Context(t), &orderapi.ListOrdersParams{CustomerID: &c.ID, State: &state})
		require.NoError(t, err)
		require.NotNil(t, a.JSON200, "%s", a.Body)
		require.Len(t, a.JSON200.Items, 1)
		require.Equal(t, want, a.JSON200.Items[0].OrderID)
	}
}

func TestETagAndIfMatch(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	o := c.Buy(shop.Paying("tok_declined"))
	path := "/v1/orders/" + o.OrderID
	etag := system.Send(t, http.MethodGet, "order", path, nil).Header.Get("ETag")
	require.Regexp(t, `^"[0-9]+"$`, etag)

	p := system.Send(t, http.MethodPost, "order", path+"/cancel", nil, "If-Match", `"1"`).Problem(t, http.StatusPreconditionFailed)
	require.NotEmpty(t, p.Detail)
	a := system.Send(t, http.MethodPost, "order", path+"/cancel", nil, "If-Match", etag)
	require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
	require.Equal(t, etag, a.Header.Get("ETag"))
	require.Equal(t, o, c.Await(o.OrderID))
}

// TestPricesAreTheServices prices an order from the catalogue, whatever the customer thinks.
func TestPricesAreTheServices(t *testing.T) {
	t.Parallel()
	products, err := system.Products(shop.Context(t))
	require.NoError(t, err)
	require.NotEmpty(t, products)
	price := map[string]int64{}
	for _, p := range products {
		require.Equal(t, "EUR", p.Price.Currency)
		require.Positive(t, p.Price.Amount)
		price[p.SKU] = p.Price.Amount
	}
	o := system.Customer(t).Place()
	var total int64
	for _, l := range o.Lines {
		require.Equal(t, price[l.SKU], l.UnitPrice.Amount)
		require.Equal(t, price[l.SKU]*int64(l.Quantity), l.LineTotal.Amount)
		total += l.LineTotal.Amount
	}
	require.Equal(t, total, o.Total.Amount)
}

// TestNeverOversold has more customers than goods.
func TestNeverOversold(t *testing.T) {
	t.Parallel()
	const sku = "LAMP-LIMITED" // no other test buys it
	ctx := shop.Context(t)
	c := system.Customer(t)
	stock, err := system.Restock(ctx, c.NewID("key"), sku, 7)
	require.NoError(t, err)
	available := int(stock.Available)
	ids := make([]string, available+20)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			o, err := c.System.Place(ctx, c.NewID("key"), c.Request(shop.Of(1, sku)))
			if err == nil {
				ids[i] = o.OrderID
			}
		})
	}
	wait.Wait()
	confirmed := 0
	for _, id := range ids {
		require.NotEmpty(t, id, "an order was not taken")
		if o := c.Await(id); o.State == orderapi.OrderStateConfirmed {
			confirmed++
		} else {
			shop.Cancelled(t, o, "out_of_stock")
		}
	}
	require.Equal(t, available, confirmed)
	after, err := system.Stock(ctx)
	require.NoError(t, err)
	require.Zero(t, after[sku].Available)
	require.Equal(t, stock.Received, after[sku].Received)
}

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	shop.Confirmed(t, system.Customer(t).Buy()) // so that every service has something to count
	for _, service := range client.Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/livez", "/readyz"} {
				require.Equal(t, http.StatusOK, system.Send(t, http.MethodGet, service, path, nil).Status, path)
			}
			shop.Eventually(t, func(ctx context.Context) error {
				status, text, err := system.Get(ctx, service, "/metrics")
				if err != nil || status != http.StatusOK {
					return fmt.Errorf("status %d: %w", status, err)
				}
				for _, name := range []string{
					"go_goroutines", "messaging_process_duration_seconds_bucket", "consumer_duplicates_total",
					"consumer_retries_total", "outbox_waiting", "outbox_oldest_age_seconds", "http_server_active_requests",
				} {
					if !strings.Contains(text, "\n"+name) {
						return fmt.Errorf("%s has no metric %s", service, name)
					}
				}
				return nil
			})
		})
	}
}
