package kafka_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// TestConformance is Watermill's own suite for every Pub/Sub, with what watermill-kafka claims when it runs the suite on
// itself. The suite has a short form with fewer messages and subscribers, which runs here; TEST_CONFORMANCE=long runs it
// as it is, on topics of as many partitions as watermill-kafka's: `make test-conformance`, or `make test-conformance-native`
// on Apache Kafka.
func TestConformance(t *testing.T) {
	t.Parallel()
	form := os.Getenv("TEST_CONFORMANCE")
	require.Contains(t, []string{"", "long"}, form, "TEST_CONFORMANCE must be long, or empty for the short form")
	partitions := int32(8)
	if form == "long" {
		partitions = 50
	}
	_, cfg := broker(t, 1)
	admin := admin(t, cfg)
	run := func(name string, features tests.Features, group func() string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			features.ForceShort = form != "long"
			s := suite{cfg: cfg, admin: admin, partitions: partitions, keys: features.GuaranteedOrder}
			tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
				return s.construct(t, group())
			}, s.construct)
		})
	}
	one := func() string { return "suite" }
	run("without keys", tests.Features{ConsumerGroups: true, Persistent: true}, one)
	run("with keys", tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true}, one)
	// A group that is new starts with what was there before it. watermill-kafka reads without a group for this.
	run("each in a group of its own", tests.Features{Persistent: true, NewSubscriberReceivesOldMessages: true}, watermill.NewUUID)
}

type suite struct {
	cfg        kafka.Config
	admin      *kafka.Admin
	partitions int32
	keys       bool
}

func (s suite) construct(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: s.cfg}, quiet)
	require.NoError(t, err)
	sub := &suiteSubscriber{suite: s, cfg: kafka.SubscriberConfig{
		Config: s.cfg, Group: group, NackDelay: time.Millisecond, DrainTimeout: 100 * time.Millisecond,
	}}
	// The suite does not close all that it opens. What it opened first, and made the topics with, is closed last.
	t.Cleanup(func() {
		require.NoError(t, p.Close())
		require.NoError(t, sub.Close())
		for _, topic := range sub.made {
			require.NoError(t, s.admin.DeleteTopic(context.Background(), topic))
		}
	})
	if s.keys {
		return suitePublisher{p}, sub
	}
	return p, sub
}

// suitePublisher gives messages keys, of which the suite knows nothing. It expects order among messages of one payload.
type suitePublisher struct{ *kafka.Publisher }

func (p suitePublisher) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		m.Metadata[event.HeaderKey] = "key-" + string(m.Payload)
	}
	return p.Publisher.Publish(topic, msgs...)
}

// suiteSubscriber gives every topic a subscriber of its own: the suite does not declare its topics.
type suiteSubscriber struct {
	suite
	cfg kafka.SubscriberConfig

	mu   sync.Mutex
	made []string
	subs []*kafka.Subscriber
}

// SubscribeInitialize implements Watermill's SubscribeInitializer, which the suite calls before it publishes.
func (s *suiteSubscriber) SubscribeInitialize(topic string) error {
	s.mu.Lock()
	s.made = append(s.made, topic)
	s.mu.Unlock()
	return s.admin.EnsureTopics(context.Background(), []kafka.Topic{{Name: topic, Partitions: s.partitions}})
}

func (s *suiteSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	cfg := s.cfg
	cfg.Topics = []string{topic}
	// One group for all topics would be rebalanced by every test that starts or ends.
	cfg.Group += "-" + topic
	sub, err := kafka.NewSubscriber(cfg, quiet)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, sub)
	return sub.Subscribe(ctx, topic)
}

func (s *suiteSubscriber) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if err := sub.Close(); err != nil {
			return err
		}
	}
	return nil
}
