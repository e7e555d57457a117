package fanout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/queue"
	"github.com/orderflow/orderflow/services/notification/internal/fanout"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusing is a Kafka that refuses everything.
type refusing struct{}

func (refusing) SendBatch(_ context.Context, batch []event.Addressed) []error {
	errs := make([]error, len(batch))
	for i := range errs {
		errs[i] = errors.New("refused")
	}
	return errs
}
func (refusing) SendRecord(context.Context, kafka.Record) error { return errors.New("refused") }

// A batch holds many events of one customer: behind one that cannot be sent, none of its topic and customer is sent.
func TestSendBatchKeepsACustomersOrder(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	logger := slog.New(slog.DiscardHandler)
	sender := fanout.Sender{
		Feed:    feed.New(rdb, feed.Config{Prefix: "feed:", MaxEntries: 1000, Expiry: time.Hour}, logger),
		Webhook: queue.New(rdb, queue.Config{Stream: webhook.Stream}, logger), Kafka: refusing{},
	}
	var batch []event.Addressed
	var want []bool // which are sent
	put := func(topic, customer, position string, sent bool) {
		id := fmt.Sprint(len(batch))
		data, err := json.Marshal(map[string]any{"id": id, "customer_id": customer, "position": position})
		require.NoError(t, err)
		batch = append(batch, event.Addressed{Topic: topic, Event: event.Event{
			ID: id, Type: topic, Source: "/t", Key: customer, Time: time.Now(), Data: data,
		}})
		want = append(want, sent)
	}
	for i := range 100 {
		put(fanout.FeedTopic, "a", fmt.Sprint(i+1, "-0"), true)
		put(webhook.Stream, "a", fmt.Sprint(i+1, "-0"), true)
		position, sent := fmt.Sprint(i+1, "-0"), i < 50
		if i == 50 {
			position = "none"
		}
		put(fanout.FeedTopic, "b", position, sent)
		put("elsewhere", "a", "1-0", false)
	}
	errs := sender.SendBatch(t.Context(), batch)
	for i, err := range errs {
		require.Equal(t, want[i], err == nil, "%d: %v", i, err)
	}
	for stream, n := range map[string]int64{"feed:a": 100, "feed:b": 50, webhook.Stream: 100} {
		require.Equal(t, n, rdb.XLen(t.Context(), stream).Val(), stream)
	}
	for i, m := range rdb.XRange(t.Context(), webhook.Stream, "-", "+").Val() {
		require.Equal(t, batch[4*i+1].Event.ID, m.Values["id"])
	}

	// Redis refuses: all wait.
	server.SetError("OOM command not allowed when used memory > 'maxmemory'")
	for _, err := range sender.SendBatch(t.Context(), batch) {
		require.Error(t, err)
	}
}
