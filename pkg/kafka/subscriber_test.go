package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func TestKeyOrderedAndConcurrentAcrossKeys(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	send(t, publisher(t, cfg), addressed("topic", "a", 0), addressed("topic", "a", 1), addressed("topic", "b", 0), addressed("topic", "c", 0), addressed("topic", "b", 1))
	messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic")

	// The first of every key is there at once, and none of a second.
	first := map[string]*message.Message{}
	for range 3 {
		m := receive(t, messages)
		first[m.UUID] = m
	}
	require.Contains(t, first, "a-0")
	require.Contains(t, first, "b-0")
	require.Contains(t, first, "c-0")
	nothing(t, messages)

	// b goes on while a is stuck.
	require.True(t, first["b-0"].Ack())
	m := receive(t, messages)
	require.Equal(t, "b-1", m.UUID)
	m.Ack()
	nothing(t, messages)
	first["a-0"].Ack()
	require.Equal(t, "a-1", receive(t, messages).UUID)
}

func TestNackComesAgainBeforeItsKeysNext(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	send(t, publisher(t, cfg), addressed("topic", "a", 0), addressed("topic", "a", 1))
	messages := subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic")
	for range 3 {
		m := receive(t, messages)
		require.Equal(t, "a-0", m.UUID)
		m.Nack()
		<-m.Context().Done()
	}
	m := receive(t, messages)
	require.Equal(t, "a-0", m.UUID)
	require.NoError(t, m.Context().Err())
	m.Ack()
	<-m.Context().Done()
	require.Equal(t, "a-1", receive(t, messages).UUID)
}

func TestOffsetNeverPassesAnUnfinishedMessage(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	var batch []event.Addressed
	for n := range 5 {
		batch = append(batch, addressed("topic", fmt.Sprint(n), 0))
	}
	send(t, publisher(t, cfg), batch...)
	config := kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, DrainTimeout: 100 * time.Millisecond}
	first := subscriber(t, config)
	messages := subscribe(t, first, "topic")
	for range 5 {
		if m := receive(t, messages); m.UUID != "2-0" { // the third is never answered
			m.Ack()
		}
	}
	require.Eventually(t, func() bool { return committed(cluster, "group", "topic", 0) == 2 }, patience, tick)
	require.NoError(t, first.Close())
	require.EqualValues(t, 2, committed(cluster, "group", "topic", 0))

	// The unfinished one comes to the next member; those after it may.
	second := subscriber(t, config)
	messages = subscribe(t, second, "topic")
	for got := ""; got != "2-0"; {
		m := receive(t, messages)
		got = m.UUID
		require.NotContains(t, []string{"0-0", "1-0"}, got)
		m.Ack()
	}
}

func TestLateAckAfterTheDrainIsIgnored(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	send(t, publisher(t, cfg), addressed("topic", "a", 0))
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, DrainTimeout: time.Millisecond})
	m := receive(t, subscribe(t, s, "topic"))
	require.NoError(t, s.Close())
	require.Error(t, m.Context().Err(), "the drain's bound ends the message's context")
	m.Ack()
	require.EqualValues(t, -1, committed(cluster, "group", "topic", 0))
}

func TestCloseWaitsForWhatIsInHandAndCommitsIt(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	send(t, publisher(t, cfg), addressed("topic", "a", 0), addressed("topic", "a", 1))
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
	messages := subscribe(t, s, "topic")
	m := receive(t, messages)
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
		require.Fail(t, "Close did not wait")
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, m.Context().Err())
	m.Ack()
	require.NoError(t, <-closed)
	require.EqualValues(t, 1, committed(cluster, "group", "topic", 0))
	_, open := <-messages
	require.False(t, open)
	require.False(t, s.Joined())
	require.Empty(t, assigned(t, cluster, "group"))
}

func TestOneMemberForAllTopics(t *testing.T) {
	t.Parallel()
	topics := []string{"one", "two", "three"}
	cluster, cfg := broker(t, 2, topics...)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: topics})
	channels := map[string]<-chan *message.Message{}
	for _, topic := range topics {
		require.False(t, s.Joined())
		channels[topic] = subscribe(t, s, topic)
	}
	require.Eventually(t, s.Joined, patience, tick)
	require.Equal(t, []int{6}, assigned(t, cluster, "group"))
	p := publisher(t, cfg)
	for _, topic := range topics {
		send(t, p, addressed(topic, "k", 1))
		m := receive(t, channels[topic])
		r, ok := kafka.RecordOf(m)
		require.True(t, ok)
		require.Equal(t, topic, r.Topic)
		m.Ack()
	}
	_, err := s.Subscribe(context.Background(), "one")
	require.ErrorContains(t, err, "already")
	_, err = s.Subscribe(context.Background(), "four")
	require.ErrorContains(t, err, "not among")
}

// Members come and go under load: nothing is lost, and one key's messages are never handled at the same time.
func TestRebalanceUnderLoad(t *testing.T) {
	t.Parallel()
	const keys, each = 40, 25
	cluster, cfg := broker(t, 6, "topic")
	var mu sync.Mutex
	handled, inHand := map[string]int{}, map[string]bool{}
	done := make(chan struct{})
	var handlers sync.WaitGroup
	start := func() *kafka.Subscriber {
		s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
		messages := subscribe(t, s, "topic")
		handlers.Go(func() {
			for m := range messages {
				handlers.Go(func() {
					key := m.Metadata[event.HeaderKey]
					mu.Lock()
					if inHand[key] {
						t.Errorf("two messages of key %s at a time", key)
					}
					inHand[key] = true
					mu.Unlock()
					<-time.After(2 * time.Millisecond)
					mu.Lock()
					inHand[key] = false
					handled[m.UUID]++
					if len(handled) == keys*each {
						select {
						case <-done:
						default:
							close(done)
						}
					}
					mu.Unlock()
					m.Ack()
				})
			}
		})
		return s
	}
	first := start()
	require.Eventually(t, first.Joined, patience, tick)
	p := publisher(t, cfg)
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		for n := range each {
			var batch []event.Addressed
			for k := range keys {
				batch = append(batch, addressed("topic", fmt.Sprintf("key%d", k), n))
			}
			for _, err := range p.SendBatch(context.Background(), batch) {
				if err != nil {
					t.Error(err)
				}
			}
			<-time.After(100 * time.Millisecond)
		}
	}()
	second := start()
	require.Eventually(t, func() bool { return slices.Equal(assigned(t, cluster, "group"), []int{3, 3}) }, patience, tick)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return slices.Equal(assigned(t, cluster, "group"), []int{6}) }, patience, tick)
	<-produced
	select {
	case <-done:
	case <-time.After(patience):
		mu.Lock()
		defer mu.Unlock()
		require.Failf(t, "lost", "%d of %d handled", len(handled), keys*each)
	}
	require.NoError(t, second.Close())
	handlers.Wait()
	var all int64
	for partition := range int32(6) {
		all += max(0, committed(cluster, "group", "topic", partition))
	}
	require.EqualValues(t, keys*each, all, "everything is committed")
}

func TestSubscriptionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "one", "two")
	p := publisher(t, cfg)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"one", "two"}})
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	one, err := s.Subscribe(ctx, "one")
	require.NoError(t, err)
	two := subscribe(t, s, "two")
	send(t, p, addressed("one", "k", 0))
	m := receive(t, one)
	require.Equal(t, "value", m.Context().Value(key{}))
	cancel()
	<-m.Context().Done()
	_, open := <-one
	require.False(t, open)
	m.Ack()

	// The other topic goes on, in the same session.
	send(t, p, addressed("one", "k", 1), addressed("two", "k", 0))
	m = receive(t, two)
	require.True(t, s.Joined())
	m.Ack()
	require.NoError(t, s.Close())
	require.EqualValues(t, 1, committed(cluster, "group", "two", 0))
	require.EqualValues(t, -1, committed(cluster, "group", "one", 0))
}

func TestComesBackWithTheBroker(t *testing.T) {
	t.Parallel()
	// Nothing listens yet, and the topic is made later still.
	port := freePort(t)
	cfg := kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", port)}}
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
	messages := subscribe(t, s, "topic")
	require.Never(t, s.Joined, 300*time.Millisecond, tick)
	dir := t.TempDir()
	cluster := brokerAt(t, port, dir)
	admin, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	require.NoError(t, admin.EnsureTopics(t.Context(), []kafka.Topic{{Name: "topic", Partitions: 2}}))
	require.Eventually(t, s.Joined, patience, tick)
	p := publisher(t, cfg)
	send(t, p, addressed("topic", "k", 0))
	receive(t, messages).Ack()

	cluster.Close()
	require.Eventually(t, func() bool { return !s.Joined() }, patience, tick)
	require.Error(t, admin.Reachable(t.Context()))
	for _, err := range p.SendBatch(t.Context(), []event.Addressed{addressed("topic", "k", 1)}) {
		require.Error(t, err)
	}
	brokerAt(t, port, dir)
	require.Eventually(t, s.Joined, patience, tick)
	require.Eventually(t, func() bool { return admin.Reachable(t.Context()) == nil }, patience, tick)
	require.Eventually(t, func() bool {
		return p.SendBatch(t.Context(), []event.Addressed{addressed("topic", "k", 2)}) == nil
	}, patience, tick)
	for got := ""; got != "k-2"; {
		m := receive(t, messages)
		got = m.UUID
		m.Ack()
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic")
	p := publisher(t, cfg)
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}})
	s.Pause()
	messages := subscribe(t, s, "topic")
	require.Eventually(t, s.Joined, patience, tick)
	send(t, p, addressed("topic", "k", 0))
	nothing(t, messages)
	s.Resume()
	receive(t, messages).Ack()
}

func TestSubscriberConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := kafka.NewSubscriber(kafka.SubscriberConfig{Config: kafka.Config{Brokers: []string{"nowhere"}}, MaxInFlight: -1}, quiet)
	for _, want := range []string{`broker "nowhere" must be host:port`, "group is empty", "topics are", "negative"} {
		require.ErrorContains(t, err, want)
	}
}

// At most once: the offset is committed before the message is out, and what was not acknowledged does not come again.
func TestAtMostOnceCommitsFirst(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	var batch []event.Addressed
	for n := range 5 {
		batch = append(batch, addressed("topic", "k", n))
	}
	send(t, publisher(t, cfg), batch...)
	config := kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, Guarantee: kafka.AtMostOnce, MaxInFlight: 1}
	s := subscriber(t, config)
	messages := subscribe(t, s, "topic")
	m := receive(t, messages)
	require.Equal(t, "k-0", m.UUID)
	require.EqualValues(t, 1, committed(cluster, "group", "topic", 0))
	m.Nack()
	m = receive(t, messages)
	require.Equal(t, "k-1", m.UUID, "the first was given up")
	require.EqualValues(t, 2, committed(cluster, "group", "topic", 0))
	m.Ack()
	m = receive(t, messages)
	require.Equal(t, "k-2", m.UUID)
	m.Ack()
	require.NoError(t, s.Close())
}

// What was committed ahead is handed out before the partition is given up, and nothing more.
func TestAtMostOnceHandsOutWhatItCommitted(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	const n = 1000
	var batch []event.Addressed
	for i := range n {
		batch = append(batch, addressed("topic", "k", i))
	}
	send(t, publisher(t, cfg), batch...)
	config := kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, Guarantee: kafka.AtMostOnce, MaxInFlight: 50}
	s := subscriber(t, config)
	messages := subscribe(t, s, "topic")
	first := receive(t, messages)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	first.Ack()
	handed := 1
	for m := range messages {
		require.Equal(t, fmt.Sprintf("k-%d", handed), m.UUID)
		handed++
		m.Ack()
	}
	require.NoError(t, <-closed)
	require.EqualValues(t, handed, committed(cluster, "group", "topic", 0))
	require.Less(t, handed, n)
	require.Equal(t, fmt.Sprintf("k-%d", handed), receive(t, subscribe(t, subscriber(t, config), "topic")).UUID)
}

// Nothing is handed out whose offset the cluster does not have for certain.
func TestAtMostOnceWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	cluster, cfg := embedded(t, 1, "topic")
	send(t, publisher(t, cfg), addressed("topic", "k", 0))
	refusals := make(chan struct{})
	cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case refusals <- struct{}{}:
			return refuse(request, kerr.CoordinatorNotAvailable.Code), nil, true
		default:
			return nil, nil, false
		}
	})
	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, Guarantee: kafka.AtMostOnce})
	messages := subscribe(t, s, "topic")
	select {
	case <-refusals:
	case <-time.After(patience):
		require.Fail(t, "no commit")
	}
	require.Equal(t, "k-0", receive(t, messages).UUID)
	require.EqualValues(t, 1, committed(cluster, "group", "topic", 0))
}

// What a transaction aborted is not handed out, and the markers in between stop no offset.
func TestOnlyCommittedRecordsAreHandedOut(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 1, "topic")
	settings := cfg.Sarama()
	settings.Producer.Transaction.ID = "writer"
	p, err := sarama.NewSyncProducer(cfg.Brokers, settings)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, end := range []func() error{p.AbortTxn, p.CommitTxn} {
		require.NoError(t, p.BeginTxn())
		_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: "topic"})
		require.NoError(t, err)
		require.NoError(t, end())
	}
	// The log: a record, the mark that it was aborted, a record, the mark that it was committed.
	m := receive(t, subscribe(t, subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}}), "topic"))
	r, _ := kafka.RecordOf(m)
	require.EqualValues(t, 2, r.Offset)
	m.Ack()
	require.Eventually(t, func() bool { return committed(cluster, "group", "topic", 0) == 3 }, patience, tick)
}
