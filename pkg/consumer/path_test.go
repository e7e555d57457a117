package consumer_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// The path of one message, 256 of them or more at hand: decode, inbox, a handler of one statement, outbox, commit. failing is 0 or one in how
// many is given up at once.
func BenchmarkPath(b *testing.B) {
	for _, tc := range []struct{ batchMax, failing int }{{1, 0}, {16, 0}, {256, 0}, {1024, 0}, {1, 100}, {256, 100}, {256, 10}} {
		b.Run(fmt.Sprintf("batch=%d/failing=%d", tc.batchMax, tc.failing), func(b *testing.B) {
			databasetest.EachBench(b, func(b *testing.B, url string) {
				w := newBenchOf(b, url, kafka.EffectivelyOnce, tc.batchMax)
				w.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
					if n, err := strconv.Atoi(key); err == nil && tc.failing > 0 && n%tc.failing == 0 {
						return fault.Permanentf("one in %d", tc.failing)
					}
					return nil
				}
				w.load(b, max(256, tc.batchMax), func(i int) *message.Message { return w.send(fmt.Sprint(i), fmt.Sprint("id", i)) })
			})
		})
	}
}

// What the path costs of itself: the handler calls nobody, publishes, and has no statement of its own.
func BenchmarkCall(b *testing.B) {
	databasetest.EachBench(b, func(b *testing.B, url string) {
		w := newBench(b, url, kafka.EffectivelyOnce)
		w.load(b, 256, func(i int) *message.Message {
			return w.sendOf(context.WithoutCancel(b.Context()), called{}, fmt.Sprint(i), fmt.Sprint("id", i))
		})
	})
}

// load keeps up to most messages at hand until as many as the benchmark wants were sent and acknowledged.
func (b *bench) load(of *testing.B, most int, send func(i int) *message.Message) {
	places := make(chan struct{}, most)
	var all sync.WaitGroup
	of.ReportAllocs()
	of.ResetTimer()
	for i := range of.N {
		places <- struct{}{}
		msg := send(i)
		all.Go(func() {
			<-msg.Acked()
			<-places
		})
	}
	all.Wait()
	of.StopTimer()
	transactions, messages := b.committed()
	of.ReportMetric(float64(messages)/float64(transactions), "msgs/tx")
	of.ReportMetric(float64(of.N)/of.Elapsed().Seconds(), "msgs/s")
}
