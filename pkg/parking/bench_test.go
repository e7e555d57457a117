package parking_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/parking"
)

// benchTopic is that of measured, whose methods have nowhere else to take it from.
var benchTopic string

type measured struct{}

func (measured) EventType() string  { return "test.measured" }
func (measured) EventTopic() string { return benchTopic }

// What the keys that are well see of one in a hundred that is not: the 99th percentile from sending a message to its
// commit, at 200 messages a second: when all are well, while one key in a hundred sleeps for 100 ms and fails in every
// attempt, and while one in a hundred sleeps for 1 s. parking=false is the subscriber without a Parking. b.N is the number of messages; 4000x are enough for the bound of
// messages in hand to be met. On the brokers of TEST_KAFKA_BROKERS, if set.
func BenchmarkHealthyKeys(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("parking=%t", with), func(b *testing.B) {
			databasetest.EachBench(b, func(b *testing.B, url string) {
				db := databasetest.Open(b, url, map[string]fs.FS{
					"outbox": outbox.Migrations, "inbox": inbox.Migrations, "parked": parking.Migrations, "dead_letters": deadletter.Migrations,
				})
				alone := measure(b, db, with, nil)
				b.ReportMetric(float64(alone.Microseconds())/1000, "p99-alone-ms")
				for name, ill := range map[string]func(context.Context) error{"failing": fails, "slow": sleeps} {
					beside := measure(b, db, with, ill)
					b.ReportMetric(float64(beside.Microseconds())/1000, "p99-beside-"+name+"-ms")
					b.ReportMetric(float64(beside)/float64(alone), name+"-ratio")
				}
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}

const (
	benchKeys = 500
	benchTick = 10 * time.Millisecond
	benchEach = 2 // messages a tick
)

func fails(ctx context.Context) error {
	_ = rest(ctx, 100*time.Millisecond)
	return errors.New("it always does")
}

func sleeps(ctx context.Context) error { return rest(ctx, time.Second) }

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// measure is the 99th percentile of the keys that are well. ill is what one in a hundred does; nil has all be well.
func measure(b *testing.B, db *database.DB, with bool, ill func(context.Context) error) time.Duration {
	group := fmt.Sprint("bench-", time.Now().UnixNano())
	benchTopic = group + ".topic"
	cfg := brokers(b, benchTopic, deadletter.RedriveTopic(group), deadletter.Topic(group))
	sender, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, quiet)
	require.NoError(b, err)
	defer func() { require.NoError(b, sender.Close()) }()
	store := parking.New(db, group, time.Now)
	c, err := consumer.New(
		consumer.Config{MaxAttempts: 100, BackoffInitial: 200 * time.Millisecond, BackoffMax: 10 * time.Second, BatchMax: 256},
		consumer.Deps{
			Group: group, DB: db, Outbox: outbox.New(db, event.NewFactory("/bench"), outbox.Options{}), Parking: store,
			DeadLetters: deadletter.NewStore(db, sender, time.Now), Sender: sender,
			Validate: func(string, []byte) error { return nil }, Logger: quiet, Registry: prometheus.NewRegistry(), Now: time.Now,
		})
	require.NoError(b, err)
	var mu sync.Mutex
	var took []time.Duration
	consumer.OnCall(c, func(ctx context.Context, e event.Event, _ measured) (consumer.HandlerFunc, error) {
		isIll := ill != nil && strings.HasSuffix(e.Key, "00")
		if isIll {
			if err := ill(ctx); err != nil {
				return nil, err
			}
		}
		return func(_ context.Context, tx *outbox.Tx, e event.Event) error {
			if isIll {
				return nil
			}
			tx.AfterCommit(func() {
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(e.Time))
			})
			return nil
		}, nil
	})
	settings := kafka.SubscriberConfig{Config: cfg, Group: group, Topics: c.Topics(), MaxInFlight: 16, DrainTimeout: time.Second}
	if with {
		settings.Parking = store
	}
	sub, err := kafka.NewSubscriber(settings, quiet)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, sub) }()
	require.Eventually(b, sub.Joined, patience, tick)

	healthy := 0
	pace := time.NewTicker(benchTick)
	defer pace.Stop()
	for n := 0; n < b.N; {
		<-pace.C
		var batch []event.Addressed
		for range min(b.N-n, benchEach) {
			key := fmt.Sprint("key", 101+n%benchKeys)
			if ill == nil || !strings.HasSuffix(key, "00") {
				healthy++
			}
			batch = append(batch, event.Addressed{Topic: benchTopic, Event: event.Event{
				ID: fmt.Sprint(group, "-", n), Type: "test.measured", Source: "/bench", Key: key, Time: time.Now(), Data: []byte(`{}`),
			}})
			n++
		}
		for _, err := range sender.SendBatch(ctx, batch) {
			require.NoError(b, err)
		}
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(took)
	}
	for deadline := time.Now().Add(patience); count() < healthy && time.Now().Before(deadline); {
		<-pace.C
	}
	cancel()
	require.NoError(b, <-ended)
	mu.Lock()
	defer mu.Unlock()
	for len(took) < healthy { // they were held up for longer than anybody waits
		took = append(took, patience)
	}
	if len(took) == 0 { // of a single message, which is well
		return 1
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// brokers returns a cluster with topics of two partitions.
func brokers(b *testing.B, topics ...string) kafka.Config {
	if real := os.Getenv("TEST_KAFKA_BROKERS"); real != "" {
		cfg := kafka.Config{Brokers: strings.Split(real, ",")}
		admin, err := kafka.NewAdmin(cfg)
		require.NoError(b, err)
		defer func() { require.NoError(b, admin.Close()) }()
		var declared []kafka.Topic
		for _, name := range topics {
			declared = append(declared, kafka.Topic{Name: name, Partitions: 2, Replication: 1})
		}
		require.NoError(b, admin.EnsureTopics(b.Context(), declared))
		return cfg
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	require.NoError(b, err)
	b.Cleanup(cluster.Close)
	return kafka.Config{Brokers: cluster.ListenAddrs()}
}
