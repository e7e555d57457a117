// Package subscriber is Watermill's own Kafka subscriber, watermill-kafka v3, set for a benchmark against package pkg/kafka's.
//
// Each of its claims of a partition hands out one message and waits for its acknowledgement before the next: that is how
// it is made, and no setting changes it. So what it does in parallel is the number of partitions.
//
// How it is set, in its favour: in a consumer group, as its documentation says for production; the client settings (sarama)
// are our own subscriber's, where they apply: the protocol version, reading committed records only, offsets committed once
// a second, 256 records read ahead of the handler, the cooperative-sticky assignment. Errors are returned, which it needs.
// It sleeps neither after a negative acknowledgement nor before it connects again. Its own marshaller reads the records.
// It has no tracer and no logger, and neither has ours.
package subscriber

import (
	"time"

	"github.com/ThreeDotsLabs/watermill"
	stock "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// New returns the subscriber as a member of a group, which begins with the oldest message when it is new.
func New(brokers []string, group string) (message.Subscriber, error) {
	settings := kafka.Config{Brokers: brokers, ClientID: "watermill"}.Sarama()
	settings.Consumer.Return.Errors = true
	settings.Consumer.Offsets.AutoCommit.Interval = time.Second
	return stock.NewSubscriber(stock.SubscriberConfig{
		Brokers: brokers, ConsumerGroup: group, OverwriteSaramaConfig: settings, Unmarshaler: stock.DefaultMarshaler{},
		NackResendSleep: stock.NoSleep, ReconnectRetrySleep: stock.NoSleep,
	}, watermill.NopLogger{})
}
