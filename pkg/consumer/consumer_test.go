package consumer_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/consumer"
)

func newConsumer(t *testing.T) *consumer.Consumer {
	t.Helper()
	c, err := consumer.New(
		consumer.Config{MaxAttempts: 1, BackoffInitial: time.Millisecond, BackoffMax: time.Millisecond, BatchMax: 1},
		consumer.Deps{Group: "g", Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: time.Now},
	)
	require.NoError(t, err)
	return c
}

// A process that is told to stop while it starts stops, and leaves nothing behind.
func TestStopBeforeRunning(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() {
		done <- newConsumer(t).Run(ctx, gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}))
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.FailNow(t, "it still runs")
	}
}

// refusing is a subscriber that cannot subscribe.
type refusing struct{}

func (refusing) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return nil, context.DeadlineExceeded
}
func (refusing) Close() error { return nil }

// A router that does not come to run is an error.
func TestCannotSubscribe(t *testing.T) {
	// Watermill leaves its watch over the handlers behind; the process ends with this error.
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill/message.(*Router).watchAllHandlersStopped.func1"))
	c := newConsumer(t)
	require.Error(t, c.Run(t.Context(), refusing{}))
	require.Error(t, c.Ready())
}
