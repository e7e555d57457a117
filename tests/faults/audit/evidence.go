package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/database"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// Evidence is what was seen of a system. What a service says over REST and what stands in its database are kept apart.
type Evidence struct {
	Placed []Placed
	// Books are those of package books, read over REST.
	Books books.Audit

	// Orders are what the order service says, by id; OrderRows what its table has.
	Orders    map[string]orderapi.Order
	OrderRows map[string]OrderRow
	// Answers are what is kept of POST /v1/orders under their keys.
	Answers []Answer
	Sagas   map[string]evidence.Saga

	// What the participants hold, by order, and the books of the provider and the carrier, by order too.
	Reservations map[string]Reservation
	Payments     map[string]Payment
	Charges      map[string]Charge
	Shipments    map[string]Shipment
	Parcels      map[string]Parcel

	// Notifications are what a customer was told, over REST, the newest first; NotificationRows how many rows each has; Last the
	// last number of each; Feeds what stands in Redis, the oldest first.
	Notifications    map[string][]notificationapi.Notification
	NotificationRows map[string]int64
	Last             map[string]int64
	Feeds            map[string][]Entry

	// What analytics remembers of each order, and of each customer by currency.
	Seen      map[string]Seen
	Customers map[string]Sums

	Log evidence.Log
	// Tables and Letters are by service.
	Tables  map[string]evidence.Tables
	Letters map[string][]letters.Letter
	Lag     []kafka.GroupLag
}

// OrderRow is a row of the order service's table orders.
type OrderRow struct {
	ID, Customer string
	State        orderapi.OrderState
	Version      int64
}

// Answer is a kept answer to POST /v1/orders.
type Answer struct {
	Key    string
	Status int
	// OrderID is of the order that it names; empty for a refusal.
	OrderID string
}

// Reservation is a row of inventory's table reservations.
type Reservation struct {
	OrderID, State string
	Lines          []events.Line
}

// Payment is a row of payment's table payments.
type Payment struct {
	OrderID, State             string
	Amount                     events.Money
	Refunded                   int64
	Reference, RefundReference string
}

// Charge is what a provider has under a key: open, charged, declined, refunded or called_off.
type Charge struct {
	Key, State                 string
	Amount                     events.Money
	Reference, RefundReference string
}

// Shipment is a row of shipping's table shipments.
type Shipment struct{ OrderID, State, TrackingNumber string }

// Parcel is what the carrier has under a key: open, arranged, refused, cancelled or called_off.
type Parcel struct{ Key, State, TrackingNumber string }

// Entry is one of a feed.
type Entry struct {
	// Position is its id in the stream, ID that of the notification.
	Position, ID string
	// Data is the notification as JSON.
	Data string
}

// Seen is a row of analytics' table orders.
type Seen struct {
	OrderID, Customer, State string
	Version                  int64
	Total                    events.Money
}

// Sums is a row of analytics' table customers.
type Sums struct{ Orders, Confirmed, Cancelled, Spent int64 }

// gather reads everything. The groups' lag comes first and the topics last, see evidence.Log.Grown.
func (r *reader) gather(ctx context.Context, placed []Placed, o Options) (e Evidence, err error) {
	e = Evidence{Placed: placed, Tables: map[string]evidence.Tables{}, Letters: map[string][]letters.Letter{}}
	for _, read := range []func() error{
		func() (err error) { e.Lag, err = r.admin.Behind(ctx, client.Groups()); return err },
		func() error { return r.tables(ctx, &e) },
		func() error { return r.orders(ctx, &e) },
		func() error { return r.participants(ctx, &e) },
		func() error { return r.told(ctx, &e) },
		func() error { return r.analytics(ctx, &e) },
		func() (err error) { e.Books, err = books.Check(ctx, r.System, o.Books); return err },
		func() (err error) { e.Log, err = r.topics.Read(ctx); return err },
	} {
		if err := read(); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (r *reader) tables(ctx context.Context, e *Evidence) error {
	for _, service := range client.Services() {
		t, err := evidence.ReadTables(ctx, r.dbs[service])
		if err != nil {
			return fmt.Errorf("database of %s: %w", service, err)
		}
		e.Tables[service] = t
		if e.Letters[service], err = r.System.Letters(ctx, service, ""); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) orders(ctx context.Context, e *Evidence) error {
	all, err := r.System.AllOrders(ctx, "")
	if err != nil {
		return err
	}
	e.Orders = by(all, func(o orderapi.Order) string { return o.OrderID })
	rows, err := evidence.Rows(ctx, r.dbs["order"], `SELECT id, customer_id, state, version FROM orders`,
		func(row database.Scanner) (o OrderRow, err error) {
			return o, row.Scan(&o.ID, &o.Customer, &o.State, &o.Version)
		})
	if err != nil {
		return err
	}
	e.OrderRows = by(rows, func(o OrderRow) string { return o.ID })
	sagas, err := evidence.ReadSagas(ctx, r.dbs["order"])
	if err != nil {
		return err
	}
	e.Sagas = by(sagas, func(s evidence.Saga) string { return s.ID })
	e.Answers, err = evidence.Rows(ctx, r.dbs["order"], `SELECT request_key, status, headers FROM idempotency_keys ORDER BY client, request_key`,
		func(row database.Scanner) (a Answer, err error) {
			var text string
			if err := row.Scan(&a.Key, &a.Status, &text); err != nil {
				return a, err
			}
			var headers http.Header
			err = json.Unmarshal([]byte(text), &headers)
			a.OrderID = strings.TrimPrefix(headers.Get("Location"), "/v1/orders/")
			return a, err
		})
	return err
}

func (r *reader) participants(ctx context.Context, e *Evidence) error {
	reservations, err := evidence.Rows(ctx, r.dbs["inventory"], `SELECT order_id, state, lines FROM reservations`,
		func(row database.Scanner) (v Reservation, err error) {
			var lines string
			if err := row.Scan(&v.OrderID, &v.State, &lines); err != nil {
				return v, err
			}
			return v, json.Unmarshal([]byte(lines), &v.Lines)
		})
	if err != nil {
		return err
	}
	payments, err := evidence.Rows(ctx, r.dbs["payment"], `SELECT order_id, state, amount, currency, refunded, reference, refund_reference FROM payments`,
		func(row database.Scanner) (p Payment, err error) {
			return p, row.Scan(&p.OrderID, &p.State, &p.Amount.Amount, &p.Amount.Currency, &p.Refunded, &p.Reference, &p.RefundReference)
		})
	if err != nil {
		return err
	}
	shipments, err := evidence.Rows(ctx, r.dbs["shipping"], `SELECT order_id, state, tracking_number FROM shipments`,
		func(row database.Scanner) (s Shipment, err error) {
			return s, row.Scan(&s.OrderID, &s.State, &s.TrackingNumber)
		})
	if err != nil {
		return err
	}
	charges, err := r.ledger(ctx)
	if err != nil {
		return err
	}
	parcels, err := r.parcels(ctx)
	if err != nil {
		return err
	}
	e.Reservations = by(reservations, func(v Reservation) string { return v.OrderID })
	e.Payments = by(payments, func(p Payment) string { return p.OrderID })
	e.Shipments = by(shipments, func(s Shipment) string { return s.OrderID })
	e.Charges = by(charges, func(c Charge) string { return strings.TrimPrefix(c.Key, "charge-") })
	e.Parcels = by(parcels, func(p Parcel) string { return strings.TrimPrefix(p.Key, "arrange-") })
	return nil
}

func (r *reader) ledger(ctx context.Context) ([]Charge, error) {
	if r.Ledger != nil {
		return r.Ledger(ctx)
	}
	return evidence.Rows(ctx, r.dbs["payment"], `SELECT key, state, amount, currency, reference, refund_reference FROM sandbox_charges`,
		func(row database.Scanner) (c Charge, err error) {
			return c, row.Scan(&c.Key, &c.State, &c.Amount.Amount, &c.Amount.Currency, &c.Reference, &c.RefundReference)
		})
}

func (r *reader) parcels(ctx context.Context) ([]Parcel, error) {
	if r.Parcels != nil {
		return r.Parcels(ctx)
	}
	return evidence.Rows(ctx, r.dbs["shipping"], `SELECT key, state, tracking_number FROM sandbox_parcels`,
		func(row database.Scanner) (p Parcel, err error) {
			return p, row.Scan(&p.Key, &p.State, &p.TrackingNumber)
		})
}

// feedPrefix and a customer are the name of a feed's stream in Redis.
const feedPrefix = "notifications:"

func (r *reader) told(ctx context.Context, e *Evidence) (err error) {
	if e.Last, err = r.perCustomer(ctx, `SELECT customer_id, last_number FROM customers`); err != nil {
		return err
	}
	if e.NotificationRows, err = r.perCustomer(ctx, `SELECT customer_id, COUNT(*) FROM notifications GROUP BY customer_id`); err != nil {
		return err
	}
	if e.Feeds, err = r.feeds(ctx); err != nil {
		return err
	}
	customers := maps.Clone(e.NotificationRows)
	for _, o := range e.Orders {
		customers[o.CustomerID] = 0
	}
	e.Notifications = map[string][]notificationapi.Notification{}
	for customer := range customers {
		if e.Notifications[customer], err = r.System.AllNotifications(ctx, customer); err != nil {
			return err
		}
	}
	return nil
}

// perCustomer reads a number for each customer.
func (r *reader) perCustomer(ctx context.Context, query string) (map[string]int64, error) {
	numbers := map[string]int64{}
	_, err := evidence.Rows(ctx, r.dbs["notification"], query, func(row database.Scanner) (n int64, err error) {
		var customer string
		err = row.Scan(&customer, &n)
		numbers[customer] = n
		return n, err
	})
	return numbers, err
}

func (r *reader) feeds(ctx context.Context) (map[string][]Entry, error) {
	feeds := map[string][]Entry{}
	streams := r.redis.Scan(ctx, 0, feedPrefix+"*", 1000).Iterator()
	for streams.Next(ctx) {
		entries, err := r.redis.XRange(ctx, streams.Val(), "-", "+").Result()
		if err != nil {
			return nil, fmt.Errorf("redis: %s: %w", streams.Val(), err)
		}
		all := make([]Entry, len(entries))
		for i, m := range entries {
			id, _ := m.Values["id"].(string)
			data, _ := m.Values["data"].(string)
			all[i] = Entry{Position: m.ID, ID: id, Data: data}
		}
		feeds[strings.TrimPrefix(streams.Val(), feedPrefix)] = all
	}
	if err := streams.Err(); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return feeds, nil
}

func (r *reader) analytics(ctx context.Context, e *Evidence) error {
	seen, err := evidence.Rows(ctx, r.dbs["analytics"], `SELECT id, customer_id, state, version, total, currency FROM orders`,
		func(row database.Scanner) (s Seen, err error) {
			return s, row.Scan(&s.OrderID, &s.Customer, &s.State, &s.Version, &s.Total.Amount, &s.Total.Currency)
		})
	if err != nil {
		return err
	}
	e.Seen, e.Customers = by(seen, func(s Seen) string { return s.OrderID }), map[string]Sums{}
	_, err = evidence.Rows(ctx, r.dbs["analytics"], `SELECT customer_id, currency, orders, confirmed, cancelled, spent FROM customers`,
		func(row database.Scanner) (s Sums, err error) {
			var customer, currency string
			err = row.Scan(&customer, &currency, &s.Orders, &s.Confirmed, &s.Cancelled, &s.Spent)
			e.Customers[customer+" in "+currency] = s
			return s, err
		})
	return err
}

func by[V any](all []V, key func(V) string) map[string]V {
	m := make(map[string]V, len(all))
	for _, v := range all {
		m[key(v)] = v
	}
	return m
}

// sorted yields a map in the order of its keys, for findings that can be compared.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
