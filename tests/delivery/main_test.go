package delivery_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

var (
	// cluster is the one under test.
	cluster kafka.Config
	quiet   = slog.New(slog.DiscardHandler)
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if cluster, err = broker.FromEnv(); err != nil {
		fmt.Fprintf(os.Stderr, "These tests need a running Kafka and are told by the environment where it is:\n%v\n\n"+
			"To run them on a stack of their own:  bin/orderctl run -- go test ./tests/delivery\n", err)
		return 1
	}
	if role := os.Getenv(roleVariable); role != "" {
		return play(role)
	}
	given := false
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// parallel is how many tests run at once unless -parallel says otherwise: they wait more than they compute.
const parallel = "8"

// guarantees are all three.
var guarantees = []kafka.Guarantee{kafka.AtMostOnce, kafka.AtLeastOnce, kafka.EffectivelyOnce}

func admin(t *testing.T) *kafka.Admin {
	t.Helper()
	a, err := kafka.NewAdmin(cluster)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func publisher(t *testing.T, cfg kafka.Config, g kafka.Guarantee) *kafka.Publisher {
	t.Helper()
	p, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg, Guarantee: g}, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// send puts one record into topic, for certain.
func send(t *testing.T, topic, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), broker.Patience)
	defer cancel()
	p := publisher(t, cluster, kafka.EffectivelyOnce)
	require.NoError(t, p.SendRecord(ctx, kafka.Record{Topic: topic, Key: []byte("key"), Value: []byte(value)}))
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, broker.Patience, broker.Tick, what)
}

// within runs fn and requires that it ends in time.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(broker.Patience):
		require.FailNow(t, "not in time", what)
	}
}

// publish puts one event into topic, for certain.
func publish(t *testing.T, topic, value string) {
	t.Helper()
	p := publisher(t, cluster, kafka.EffectivelyOnce)
	for _, err := range p.SendBatch(t.Context(), []event.Addressed{happenedOn(topic, value)}) {
		require.NoError(t, err)
	}
}
