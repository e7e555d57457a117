package consumer_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestGuaranteesThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	cfg := kafka.Config{Brokers: []string{"127.0.0.1:1"}}
	quiet := slog.New(slog.DiscardHandler)
	build := func(g kafka.Guarantee, letters kafka.Guarantee) (*consumer.Consumer, error) {
		publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg, Guarantee: letters}, quiet)
		require.NoError(t, err)
		return consumer.New(
			consumer.Config{MaxAttempts: 1, BackoffInitial: time.Millisecond, BackoffMax: time.Millisecond, BatchMax: 1},
			consumer.Deps{Group: "g", Guarantee: g, Sender: publisher, Logger: quiet, Registry: prometheus.NewRegistry(), Now: time.Now},
		)
	}
	_, err := build(kafka.Guarantee(7), kafka.EffectivelyOnce)
	require.ErrorContains(t, err, "guarantee is 7, must be EffectivelyOnce, AtLeastOnce or AtMostOnce")
	_, err = build(kafka.EffectivelyOnce, kafka.AtMostOnce)
	require.ErrorContains(t, err, "the publisher of dead letters is at-most-once, must be effectively-once or at-least-once")

	c, err := build(kafka.AtMostOnce, kafka.AtLeastOnce)
	require.NoError(t, err)
	s, err := kafka.NewSubscriber(kafka.SubscriberConfig{Config: cfg, Group: "g", Topics: c.Topics()}, quiet)
	require.NoError(t, err)
	require.ErrorContains(t, c.Run(t.Context(), s), "consumer g is at-most-once, its subscriber is effectively-once: they must be the same")
	require.ErrorContains(t, c.Run(t.Context(), gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})),
		"its subscriber is a *gochannel.GoChannel")
}
