package evidence_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/parking"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/pkg/testkit"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
)

func TestMain(m *testing.M) {
	// sarama measures; its library has one goroutine for good.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// Everything that stands in the topics is read, in order, and later only what came since.
func TestReader(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, []kafka.Topic{{Name: "a", Partitions: 3}, {Name: "b", Partitions: 1}, {Name: "empty", Partitions: 2}})
	cfg := kafka.Config{Brokers: stack.Brokers()}
	reader, err := evidence.NewReader(cfg, "a", "b", "empty")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, reader.Close()) })
	read := func() evidence.Log {
		log, err := reader.Read(t.Context())
		require.NoError(t, err)
		return log
	}
	require.Empty(t, read().Records)

	factory := event.NewFactory("/t")
	sent := map[string]bool{}
	send := func(n int) {
		var all []event.Addressed
		for i := range n {
			e, err := factory.New(t.Context(), "t", fmt.Sprint("key-", i%5), i)
			require.NoError(t, err)
			all = append(all, event.Addressed{Topic: "a", Event: e})
			sent[e.ID] = true
		}
		stack.SendAll(all)
	}
	send(50)
	stack.SendRaw(kafka.Record{Topic: "b", Key: []byte("x"), Value: []byte("no message")})
	log := read()
	require.Len(t, log.Records, 51)
	require.Len(t, log.ByID(), 50)
	require.Equal(t, "b", log.Records[50].Topic)
	require.Error(t, log.Records[50].Err)
	require.Equal(t, int64(1), log.Ends[evidence.Partition{Topic: "b"}])

	send(20)
	log = read()
	require.Len(t, log.Records, 71)
	offsets := map[evidence.Partition]int64{}
	for _, r := range log.Records {
		p := evidence.Partition{Topic: r.Topic, Number: r.Partition}
		require.Equal(t, offsets[p], r.Offset)
		offsets[p]++
		if r.Topic == "a" {
			require.True(t, sent[r.Event.ID])
		}
	}
	for p, end := range log.Ends {
		require.Equal(t, offsets[p], end, "%v", p)
	}

	admin, err := sarama.NewClusterAdmin(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	require.NoError(t, admin.DeleteRecords("b", map[int32]int64{0: 1}))
	_, err = reader.Read(t.Context())
	require.EqualError(t, err, "b/0 begins at offset 1: what stood before is gone")
}

type body struct{ N int }

func (body) EventType() string  { return "t.happened" }
func (body) EventTopic() string { return "t.happened" }

func TestTables(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{
			"outbox": outbox.Migrations, "inbox": inbox.Migrations, "parked": parking.Migrations, "saga": saga.Migrations,
		})
		read := func() evidence.Tables {
			tables, err := evidence.ReadTables(t.Context(), db)
			require.NoError(t, err)
			return tables
		}
		require.Empty(t, read())
		require.Empty(t, read().Waiting())

		now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
		factory := event.Factory{Source: "/t", Now: func() time.Time { return now }, NewID: func() string { return "m-1" }}
		require.NoError(t, outbox.New(db, factory, outbox.Options{}).InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
			if _, err := tx.Publish(ctx, "k", body{1}); err != nil {
				return err
			}
			_, err := inbox.Mark(ctx, tx.Tx, "group", now, "m-0")
			return err
		}))
		parked := parking.New(db, "group", factory.Now)
		record := kafka.Record{Topic: "a", Partition: 1, Offset: 7, Key: []byte("k"), Value: []byte("v"), Timestamp: now}
		require.NoError(t, parked.Park(t.Context(), kafka.Parked{Record: record, Attempts: 2, Due: now}))
		require.Equal(t, evidence.Tables{
			Outbox: []evidence.Outgoing{{ID: "m-1", Type: "t.happened", Topic: "t.happened", Key: "k"}},
			Parked: []evidence.Parked{{ID: "a-1-7", Consumer: "group", Key: "k", Attempts: 2}},
			Inbox:  []evidence.Mark{{Consumer: "group", MessageID: "m-0"}},
		}, read())
		require.Equal(t, []string{
			"t.happened m-1 of k has not left the outbox for t.happened", "the message of k at a-1-7 waits, parked by group, after 2 attempts",
		}, read().Waiting())
		require.NoError(t, parked.Block(t.Context(), record))
		require.Contains(t, read().Waiting()[1], "until its dead letter is handled")
	})
}

func TestSagas(t *testing.T) {
	t.Parallel()
	plan, err := saga.NewDefinition("plan", 1, saga.Step{Name: "first", Deadline: time.Minute, UndoDeadline: time.Minute, MaxUndoAttempts: 1})
	require.NoError(t, err)
	databasetest.Each(t, func(t *testing.T, url string) {
		db := databasetest.Open(t, url, map[string]fs.FS{"saga": saga.Migrations})
		store, err := saga.NewStore(nil, plan)
		require.NoError(t, err)
		at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
		move := func(do func(ctx context.Context, tx *database.Tx) error) evidence.Saga {
			require.NoError(t, db.InTx(t.Context(), do))
			all, err := evidence.ReadSagas(t.Context(), db)
			require.NoError(t, err)
			require.Len(t, all, 1)
			return all[0]
		}
		apply := func(in saga.Input) evidence.Saga {
			return move(func(ctx context.Context, tx *database.Tx) error {
				_, _, err := store.Apply(ctx, tx, "s", in)
				return err
			})
		}
		begun := move(func(ctx context.Context, tx *database.Tx) error {
			_, _, err := store.Start(ctx, tx, plan, "s", nil, at)
			return err
		})
		require.Equal(t, []string{
			"saga s is running", "saga s waits for first", "saga s has a deadline left: 2026-11-21 10:01:00 +0000 UTC",
		}, begun.Unended())
		failed := apply(saga.Cancel{At: at})
		require.Equal(t, "saga s is compensating", failed.Unended()[0])
		failed = apply(saga.DeadlinePassed{At: at.Add(time.Minute), Step: "first"})
		require.Equal(t, []string{
			"saga s is compensation_failed: step first did not answer to 1 undo commands", "saga s waits for first",
		}, failed.Unended())
		ended := apply(saga.Reply{At: at, Step: "first", Outcome: saga.Undone})
		require.Empty(t, ended.Unended())

		for says, plant := range map[string]func(s *evidence.Saga){
			"saga s is compensated, its column says completed":             func(s *evidence.Saga) { s.Column = saga.Completed },
			"saga s waits for first":                                       func(s *evidence.Saga) { s.Step = "first" },
			"saga s has a deadline left: 2026-11-21 10:00:00 +0000 UTC":    func(s *evidence.Saga) { s.Deadline = at },
			"saga s has ended 0 times in its journal":                      func(s *evidence.Saga) { s.Journal = s.Journal[:1] },
			`saga s has "finished: compensated" as entry 1 of its journal`: func(s *evidence.Saga) { s.Journal = s.Journal[len(s.Journal)-1:] },
		} {
			s := ended
			plant(&s)
			require.Equal(t, []string{says}, s.Unended())
		}
	})
}
