package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/shop"
)

// message is a record that is well-formed in everything that a case does not break.
func message(topic, typ, key, body string) kafka.Record {
	e := event.Event{
		ID: system.NewID("message"), Type: typ, Source: "/e2e", Subject: key, Key: key, Time: time.Now().UTC(),
		CorrelationID: key, CausationID: "e2e", Data: []byte(body),
	}
	return kafka.Record{Topic: topic, Key: []byte(key), Value: e.Data, Headers: e.Headers()}
}

// TestBadRecords puts records straight onto topics that no service would send. Each ends in the dead letters of every
// group that reads the topic, with its place and what is wrong, and its partition goes on.
func TestBadRecords(t *testing.T) {
	t.Parallel()
	id := func() string { return system.NewID("nobody") }
	for _, tc := range []struct {
		name      string
		record    kafka.Record
		services  []string
		errorType letters.ErrorType
		says      string
	}{
		{
			name: "no JSON", record: message("payment.commands", "payment.charge", id(), `not json{`),
			services: []string{"payment"}, errorType: letters.ErrorTypeUndecodable,
		},
		{
			name: "breaks its schema", services: []string{"inventory"}, errorType: letters.ErrorTypeUndecodable, says: "quantity",
			record: message("inventory.commands", "inventory.reserve", id(), `{"order_id":"x","lines":[{"sku":"MUG-BLUE","quantity":-1}]}`),
		},
		{
			name: "lacks headers", services: []string{"shipping"}, errorType: letters.ErrorTypeUndecodable, says: "ce_id",
			record: kafka.Record{Topic: "shipping.commands", Key: []byte(id()), Value: []byte(`{"order_id":"x"}`)},
		},
		{
			name: "has no key", services: []string{"inventory"}, errorType: letters.ErrorTypeUndecodable, says: "key",
			record: func() kafka.Record {
				r := message("inventory.commands", "inventory.release", id(), `{"order_id":"x","reason":{"code":"timed_out"}}`)
				r.Key = nil
				return r
			}(),
		},
		{
			name: "is null", services: []string{"order"}, errorType: letters.ErrorTypeUndecodable,
			record: kafka.Record{Topic: "payment.charged", Key: []byte(id())},
		},
		{
			name: "is binary", services: []string{"order"}, errorType: letters.ErrorTypeUndecodable,
			record: kafka.Record{
				Topic: "shipping.arranged", Key: []byte{0xff, 0x00, 0xfe}, Value: []byte{0x00, 0x01, 0xff},
				Headers: map[string]string{event.HeaderID: "\xff\x00", event.HeaderType: "\x00"},
			},
		},
		{
			name: "names an unknown order", services: []string{"order"}, errorType: letters.ErrorTypePermanent, says: "order",
			record: func() kafka.Record {
				key := id()
				return message("inventory.reserved", "inventory.reserved", key,
					`{"order_id":"`+key+`","lines":[{"sku":"MUG-BLUE","quantity":1}]}`)
			}(),
		},
		{
			name: "is of an unknown type", services: []string{"inventory"}, errorType: letters.ErrorTypePermanent, says: "inventory.explode",
			record: message("inventory.commands", "inventory.explode", id(), `{}`),
		},
		{
			name: "bad news for two listeners", services: []string{"notification", "analytics"}, errorType: letters.ErrorTypeUndecodable,
			record: message("order.created", "order.created", id(), `{"order_id":17}`),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			counted := map[string]float64{}
			for _, service := range tc.services {
				n, err := system.Metric(shop.Context(t), service, "consumer_dead_letters_total")
				require.NoError(t, err)
				counted[service] = n
			}
			placed, err := system.Topics.Send(tc.record)
			require.NoError(t, err)
			for _, service := range tc.services {
				l := system.DeadLetter(t, service, shop.At(placed.Topic, placed.Partition, placed.Offset))
				require.Equal(t, tc.errorType, l.ErrorType, "%s", l.Error)
				require.Contains(t, l.Error, tc.says)
				require.Equal(t, service, l.Group)
				require.Equal(t, letters.StateWaiting, l.State)
				require.Zero(t, l.Retries, "what cannot help is not tried again")
				detail, err := system.Letter(shop.Context(t), service, l.ID)
				require.NoError(t, err)
				for name, value := range map[string]string{
					"original-topic": placed.Topic, "original-partition": fmt.Sprint(placed.Partition),
					"original-offset": fmt.Sprint(placed.Offset), "consumer-group": service, "error-type": string(tc.errorType),
				} {
					require.Equal(t, value, detail.Headers[name], name)
				}
				n, err := system.Metric(shop.Context(t), service, "consumer_dead_letters_total")
				require.NoError(t, err)
				require.Greater(t, n, counted[service])
				system.Discarded(t, service, l.ID)
			}
			goesOn(t, placed.Topic, placed.Partition)
		})
	}
}

// goesOn requires that a partition is still worked off: an order behind the bad record gets through.
func goesOn(t *testing.T, topic string, partition int32) {
	t.Helper()
	c := system.Customer(t)
	for range 200 {
		o := c.Place()
		at, err := system.Topics.Partition(topic, o.OrderID)
		require.NoError(t, err)
		if at == partition {
			shop.Confirmed(t, c.Await(o.OrderID))
			return
		}
	}
	t.Fatalf("no order of 200 went to partition %d of %s", partition, topic)
}

// TestADuplicateIsHandledOnce sends every record of a finished order's story once more, as it stands in the topics.
func TestADuplicateIsHandledOnce(t *testing.T) {
	t.Parallel()
	c := system.Customer(t)
	o := c.Buy()
	shop.Confirmed(t, o)
	hears(t, c.ID, o.OrderID, "order_placed", "order_confirmed")
	participants(t, o, "charged", "shipped", "arranged")
	entries := story(t, o.OrderID, []string{causeOf(t, o)}, "order.created", "inventory.reserve", "inventory.reserved",
		"payment.charge", "payment.charged", "shipping.arrange", "shipping.arranged", "order.confirmed")

	services := []string{"order", "inventory", "payment", "shipping", "notification", "analytics"}
	before := map[string]float64{}
	for _, service := range services {
		n, err := system.Metric(shop.Context(t), service, "consumer_duplicates_total")
		require.NoError(t, err)
		before[service] = n
	}
	for _, e := range entries {
		_, err := system.Topics.Send(e.Record)
		require.NoError(t, err)
	}
	for _, service := range services {
		shop.Eventually(t, func(ctx context.Context) error {
			n, err := system.Metric(ctx, service, "consumer_duplicates_total")
			if err == nil && n <= before[service] {
				err = fmt.Errorf("%s has counted no duplicate", service)
			}
			return err
		})
	}
	// One more order behind the duplicates; then they have all been worked off.
	goesOn(t, "order.created", entries[0].Partition)
	require.Equal(t, o, c.Await(o.OrderID))
	hears(t, c.ID, o.OrderID, "order_placed", "order_confirmed")
	participants(t, o, "charged", "shipped", "arranged")
	totals(t, c.ID, 1, 0, o.Total.Amount)
	again, err := system.Topics.Story(shop.Context(t), o.OrderID)
	require.NoError(t, err)
	require.Len(t, again, 2*len(entries), "a duplicate has led to new messages")
}

// causeOf is the id of the request that placed an order, as its first message has it.
func causeOf(t *testing.T, o orderapi.Order) string {
	t.Helper()
	entries, err := system.Topics.Story(shop.Context(t), o.OrderID)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	return entries[0].Event.CausationID
}

// TestALateAnswerChangesNothing answers steps that have been decided: once against the truth, and once for an order
// that was cancelled.
func TestALateAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, topic, body string
		options           []shop.Option
		payment           string
	}{
		{
			name: "declined after all", topic: "payment.declined", payment: "charged",
			body: `{"order_id":%q,"customer_id":%q,"reason":{"code":"card_declined"}}`,
		},
		{
			name: "out of stock after all", topic: "inventory.rejected", options: []shop.Option{shop.Paying("tok_declined")},
			body: `{"order_id":%q,"reason":{"code":"out_of_stock","detail":%q},"shortages":[]}`, payment: "declined",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := system.Customer(t)
			o := c.Buy(tc.options...)
			r := message(tc.topic, tc.topic, o.OrderID, fmt.Sprintf(tc.body, o.OrderID, c.ID))
			_, err := system.Topics.Send(r)
			require.NoError(t, err)
			// It is written down, and that is all.
			shop.Eventually(t, func(ctx context.Context) error {
				timeline, err := system.Timeline(ctx, o.OrderID)
				if err != nil {
					return err
				}
				for _, e := range timeline.Entries {
					if e.MessageID != nil && *e.MessageID == r.Headers[event.HeaderID] {
						return nil
					}
				}
				return fmt.Errorf("the timeline of order %s does not know the late answer", o.OrderID)
			})
			require.Equal(t, o, c.Await(o.OrderID))
			p, err := system.Payment(shop.Context(t), o.OrderID)
			require.NoError(t, err)
			require.Equal(t, tc.payment, string(p.State))
		})
	}
}

// TestUnknownFieldsAreIgnored has a command from a later version.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	key := system.NewID("later")
	r := message("inventory.commands", "inventory.reserve", key,
		`{"order_id":"`+key+`","lines":[{"sku":"KETTLE-STEEL","quantity":1,"colour":"red"}],"priority":"high"}`)
	r.Headers = maps.Clone(r.Headers)
	r.Headers["x-later"] = "yes"
	placed, err := system.Topics.Send(r)
	require.NoError(t, err)
	shop.Eventually(t, func(ctx context.Context) error {
		reservation, err := system.Reservation(ctx, key)
		return says("reservation", string(reservation.State), "reserved", err)
	})
	// The order service knows of no such order: the answer is its dead letter. Then the goods go back.
	l := system.DeadLetter(t, "order", shop.About(key))
	system.Discarded(t, "order", l.ID)
	release := message("inventory.commands", "inventory.release", key, `{"order_id":"`+key+`","reason":{"code":"timed_out"}}`)
	_, err = system.Topics.Send(release)
	require.NoError(t, err)
	shop.Eventually(t, func(ctx context.Context) error {
		reservation, err := system.Reservation(ctx, key)
		return says("reservation", string(reservation.State), "released", err)
	})
	goesOn(t, placed.Topic, placed.Partition)
	system.Discarded(t, "order", system.DeadLetter(t, "order", func(l letters.Letter) bool {
		return shop.About(key)(l) && l.Topic == "inventory.released"
	}).ID)
}
