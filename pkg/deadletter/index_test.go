package deadletter_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
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
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		deadletter.Index(ctx, cfg, "group", "", nil, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	require.Eventually(t, func() bool { return log.contains(sarama.ErrUnknownTopicOrPartition.Error()) }, 20*time.Second, 10*time.Millisecond)
	stop()
	<-ended
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	names, err := admin.TopicNames(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
}

// A broker that goes away once the index knows what the topic has, and before it is in its group, takes nothing down.
func TestIndexOutlivesItsBroker(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, deadletter.Topic("g")))
		require.NoError(t, err)
		t.Cleanup(cluster.Close)
		cfg := kafka.Config{Brokers: cluster.ListenAddrs()}
		var asked, away atomic.Int64
		cluster.ControlKey(kmsg.ListOffsets.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if asked.Add(1) == 2 { // its beginning and its end
				away.Store(1)
			}
			return nil, nil, false
		})
		cluster.ControlKey(kmsg.Metadata.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if away.Load() == 1 {
				return nil, errors.New("away"), true // which ends the connection
			}
			return nil, nil, false
		})
		var log text
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			deadletter.Index(ctx, cfg, "g", "", f.Store, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		require.Eventually(t, func() bool { return log.contains("not complete yet") }, time.Minute, 10*time.Millisecond)
		require.True(t, log.contains("cannot create new Sarama client"), "it was in its group already: %s", &log)
		away.Store(0)

		sender, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer func() { require.NoError(t, sender.Close()) }()
		letter := deadletter.New(kafka.Record{Topic: "topic", Key: []byte("k"), Value: []byte("{}")},
			deadletter.Failure{Group: "g", ErrorType: deadletter.Permanent, Err: errors.New("no"), At: noon})
		require.NoError(t, sender.SendRecord(t.Context(), letter))
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, f.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM dead_letters").Scan(&n))
			return n == 1
		}, time.Minute, 10*time.Millisecond)
		stop()
		<-ended
	})
}

// A member of the index's group that neither joins again nor leaves, as one that was killed at the wrong moment, does not
// keep the others out.
func TestIndexJoinsBesideAMemberThatIsGone(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, deadletter.Topic("g")))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cfg := kafka.Config{Brokers: cluster.ListenAddrs()}
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	require.NoError(t, err)
	defer client.Close()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = deadletter.IndexGroup("g"), "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 300_000, 1000
	protocol := cfg.Sarama().Consumer.Group.Rebalance.GroupStrategies[0].Name()
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: protocol, Metadata: (&kmsg.ConsumerMemberMetadata{Topics: []string{deadletter.Topic("g")}}).AppendTo(nil)}}
	joined, err := join.RequestWith(t.Context(), client)
	require.NoError(t, err)
	join.MemberID = joined.MemberID // which a new member is told first
	joined, err = join.RequestWith(t.Context(), client)
	require.NoError(t, err)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = join.Group, joined.MemberID, joined.Generation
	synced, err := sync.RequestWith(t.Context(), client)
	require.NoError(t, err)
	require.Zero(t, synced.ErrorCode)

	url := "sqlite:" + filepath.Join(t.TempDir(), "db")
	db := databasetest.Open(t, url, map[string]fs.FS{"dead_letters": deadletter.Migrations})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var log text
	go func() {
		defer close(ended)
		s := deadletter.NewStore(db, nil, time.Now)
		deadletter.Index(ctx, cfg, "g", "replica-1", s, slog.New(slog.NewTextHandler(&log, nil)))
	}()
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{join.Group}
	require.Eventually(t, func() bool {
		described, err := describe.RequestWith(t.Context(), client)
		return err == nil && described.Groups[0].State == "Stable" && described.Groups[0].Members[0].MemberID != join.MemberID
	}, 90*time.Second, 100*time.Millisecond, "%s", &log)
	stop()
	<-ended
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

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.String()
}

func (t *text) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Contains(t.all.String(), s)
}
