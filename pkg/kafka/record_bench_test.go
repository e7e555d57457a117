package kafka

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/event"
)

// typical is an event with a body of 300 bytes and all headers that a message usually has.
func typical(n int) event.Addressed {
	return event.Addressed{Topic: "topic", Event: event.Event{
		ID: fmt.Sprintf("0192d6f0-7c1e-7d5a-9f4b-%012d", n), Type: "test.happened", Source: "/test", Subject: fmt.Sprintf("key-%d", n),
		Key: fmt.Sprintf("key-%d", n), Time: time.Date(2026, 1, 2, 3, 4, 5, 600_000, time.UTC), CorrelationID: "story",
		CausationID: "0192d6f0-7c1e-7d5a-9f4b-3b9a4f7f2c11", Data: fmt.Appendf(nil, `{"n":%d,"text":%0287q}`, n, "text"),
	}}
}

// BenchmarkDecode makes a Watermill message of a record that came from Kafka, and of it the record and the event that a
// handler sees.
func BenchmarkDecode(b *testing.B) {
	a := typical(1)
	record := Record{Topic: a.Topic, Timestamp: a.Event.Time, Key: []byte(a.Event.Key), Value: a.Event.Data, Headers: a.Event.Headers()}.received()
	b.ReportAllocs()
	for b.Loop() {
		msg, _ := Marshaler{}.Unmarshal(record) // cannot fail
		r, ok := RecordOf(msg)
		if e, err := event.FromHeaders(r.Headers, r.Value); !ok || err != nil || e.ID != a.Event.ID {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkEncode makes the record batch of events that wait for one partition, which sarama writes. An op is an event.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			events := make([]event.Addressed, size)
			for i := range events {
				events[i] = typical(i)
			}
			to := &target{most: math.MaxInt32, producer: nobody}
			b.ReportAllocs()
			for range (b.N + size - 1) / size {
				c := callOf(events)
				for i := range c.entries {
					to.queue = append(to.queue, &c.entries[i])
				}
				if batch := to.next(math.MaxInt, sarama.CompressionLZ4); len(batch.records.Records) != size {
					b.Fatal(len(batch.records.Records))
				}
				to.identify(identity{id: 7})
				to.taken()
			}
		})
	}
}

// BenchmarkMarshal makes a record of a Watermill message, as Publish does: the way that does not lead through the outbox.
func BenchmarkMarshal(b *testing.B) {
	a := typical(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (Marshaler{}).Marshal(a.Topic, a.Event.Message()); err != nil {
			b.Fatal(err)
		}
	}
}
