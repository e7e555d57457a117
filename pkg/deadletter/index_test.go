package deadletter_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// A dead-letter topic that is not there is not created by whoever wants to read it, also on a cluster that would.
func TestIndexCreatesNoTopic(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation())
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.Config{Brokers: cluster.ListenAddrs()}
	var log text
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- deadletter.Index(ctx, cfg, "group", "", nil, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	require.Eventually(t, func() bool { return log.contains(sarama.ErrUnknownTopicOrPartition.Error()) }, 20*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	names, err := admin.TopicNames(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
}

// text is a log that can be read while it is written.
type text struct {
	mu  sync.Mutex
	all strings.Builder
}

func (t *text) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.Write(b)
}

func (t *text) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Contains(t.all.String(), s)
}
