package kafka_test

import (
	"context"
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

// TestConformance is Watermill's own suite for every Pub/Sub.
func TestConformance(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1)
	admin := admin(t, cfg)
	construct := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, quiet)
		require.NoError(t, err)
		s := &suiteSubscriber{cfg: kafka.SubscriberConfig{
			Config: cfg, Group: group, NackDelay: time.Millisecond, DrainTimeout: 500 * time.Millisecond,
		}, admin: admin}
		// The suite does not close all that it opens.
		t.Cleanup(func() {
			require.NoError(t, p.Close())
			require.NoError(t, s.Close())
		})
		return &suitePublisher{p, admin}, s
	}
	features := tests.Features{
		ConsumerGroups: true, GuaranteedOrder: true, Persistent: true, ForceShort: true,
		GenerateTopicFunc: func(c tests.TestContext) string { return "topic-" + c.TestID.String() },
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) { return construct(t, "suite") },
		construct,
	)
	// A group that is new starts with what was there before it.
	t.Run("new groups receive old messages", func(t *testing.T) {
		t.Parallel()
		features.NewSubscriberReceivesOldMessages = true
		tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return construct(t, watermill.NewUUID()) })
	})
}

// suitePublisher makes the suite's topics and keys, of which the suite knows nothing. It expects order among messages
// of one payload.
type suitePublisher struct {
	*kafka.Publisher
	admin *kafka.Admin
}

func (p *suitePublisher) Publish(topic string, msgs ...*message.Message) error {
	if err := p.admin.EnsureTopics(context.Background(), []kafka.Topic{{Name: topic, Partitions: 8}}); err != nil {
		return err
	}
	for _, m := range msgs {
		m.Metadata[event.HeaderKey] = "key-" + string(m.Payload)
	}
	return p.Publisher.Publish(topic, msgs...)
}

// suiteSubscriber gives every topic a subscriber of its own: the suite does not declare its topics.
type suiteSubscriber struct {
	cfg   kafka.SubscriberConfig
	admin *kafka.Admin

	mu   sync.Mutex
	subs []*kafka.Subscriber
}

func (s *suiteSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.admin.EnsureTopics(ctx, []kafka.Topic{{Name: topic, Partitions: 8}}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.cfg
	cfg.Topics = []string{topic}
	// One group for all topics would be rebalanced by every test that starts or ends.
	cfg.Group += "-" + topic
	sub, err := kafka.NewSubscriber(cfg, quiet)
	if err != nil {
		return nil, err
	}
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
