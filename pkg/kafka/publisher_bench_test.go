package kafka_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// BenchmarkPublisher sends batches of events of about 700 bytes to a topic of six partitions, one after the other, each to
// its end. "old" is sarama's own producer with the same settings, which is what the publisher had before. An op is a batch;
// cpu-µs/event is this process's, and with the embedded broker that broker's too.
func BenchmarkPublisher(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			_, cfg := broker(b, 6, "topic")
			batch := make([]event.Addressed, size)
			for i := range batch {
				batch[i] = addressed("topic", fmt.Sprintf("order-%08d", i), i)
				batch[i].Event.Data = benchmarkData(i)
			}
			b.Run("new", func(b *testing.B) {
				p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, quiet)
				require.NoError(b, err)
				defer func() { require.NoError(b, p.Close()) }()
				measure(b, size, func() error {
					for _, err := range p.SendBatch(b.Context(), batch) {
						if err != nil {
							return err
						}
					}
					return nil
				})
			})
			b.Run("old", func(b *testing.B) {
				p, err := sarama.NewSyncProducer(cfg.Brokers, cfg.Sarama())
				require.NoError(b, err)
				defer func() { require.NoError(b, p.Close()) }()
				measure(b, size, func() error {
					messages := make([]*sarama.ProducerMessage, size)
					for i, a := range batch {
						m, err := kafka.Marshaler{}.Marshal(a.Topic, a.Event.Message())
						if err != nil {
							return err
						}
						messages[i] = m
					}
					return p.SendMessages(messages)
				})
			})
		})
	}
}

// benchmarkData is an order as JSON.
func benchmarkData(n int) []byte {
	var lines []string
	for i := range 4 {
		lines = append(lines, fmt.Sprintf(`{"sku":"SKU-%06d","name":"product number %d","quantity":%d,"price":{"amount":%d,"currency":"EUR"}}`, n*7+i, n*7+i, i+1, 1999+n))
	}
	return fmt.Appendf(nil, `{"order_id":"0190f5a2-7b1c-7%03x-8000-%012x","customer_id":"customer-%d","lines":[%s],"total":{"amount":%d,"currency":"EUR"},"address":{"street":"Main Street %d","city":"Springfield","zip":"%05d"}}`,
		n&0xfff, n*7919, n%200, strings.Join(lines, ","), 7996+n, n, n)
}

func measure(b *testing.B, size int, send func() error) {
	b.Helper()
	require.NoError(b, send()) // connects
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(b.N*size), "cpu-µs/event")
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
}

// cpu is what this process has used so far.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
