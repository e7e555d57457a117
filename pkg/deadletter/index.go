package deadletter

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	wkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
)

// indexRetry is the wait before a letter that could not be written is tried again.
const indexRetry = time.Second

// Index reads the dead-letter topic of group into s until ctx ends. It is a consumer group of its own,
// IndexGroup, on Watermill's stock subscriber: one letter at a time is right here, and the topic's order is
// the order of the failures. A letter that cannot be written is tried again for ever and holds up those behind it.
// instanceID is the stable name of this replica, or empty: with one, a process that was killed is followed at once.
func Index(ctx context.Context, cfg kafka.Config, group, instanceID string, s *Store, logger *slog.Logger) error {
	settings := cfg.Sarama()
	settings.Consumer.Group.InstanceId = instanceID
	sub, err := wkafka.NewSubscriber(wkafka.SubscriberConfig{
		Brokers: cfg.Brokers, Unmarshaler: kafka.Marshaler{}, OverwriteSaramaConfig: settings,
		ConsumerGroup: IndexGroup(group), NackResendSleep: indexRetry,
	}, observe.WatermillLogger(logger))
	if err != nil {
		return fmt.Errorf("dead-letter index: %w", err)
	}
	messages, err := sub.Subscribe(context.WithoutCancel(ctx), Topic(group))
	if err != nil {
		return fmt.Errorf("dead-letter index: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		if err := sub.Close(); err != nil {
			logger.WarnContext(ctx, "dead-letter index did not close cleanly", "error", err)
		}
	})
	defer stop()
	for msg := range messages {
		if err := index(ctx, group, s, msg); err != nil {
			logger.WarnContext(ctx, "dead letter is not in the index yet", "group", group, "error", err)
			msg.Nack()
			continue
		}
		msg.Ack()
	}
	if ctx.Err() == nil {
		return fmt.Errorf("dead-letter index: the subscription to %s ended by itself", Topic(group))
	}
	return nil
}

func index(ctx context.Context, group string, s *Store, msg *message.Message) error {
	r, ok := kafka.RecordOf(msg)
	if !ok {
		return fmt.Errorf("message %s does not say which record it was", msg.UUID)
	}
	return s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
		return s.Record(ctx, tx, FromRecord(r, group))
	})
}
