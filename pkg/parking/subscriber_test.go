package parking_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/parking"
)

const (
	patience = 20 * time.Second
	tick     = 5 * time.Millisecond
)

var quiet = slog.New(slog.DiscardHandler)

// site is a broker, and a database with a store, of one test.
type site struct {
	t       *testing.T
	cluster *kfake.Cluster
	cfg     kafka.Config
	db      *database.DB
	sender  *kafka.Publisher
	sent    map[string]int
}

func newSite(t *testing.T, db *database.DB, topics ...string) *site {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	s := &site{t: t, cluster: cluster, cfg: kafka.Config{Brokers: cluster.ListenAddrs()}, db: db, sent: map[string]int{}}
	s.sender, err = kafka.NewPublisher(kafka.PublisherConfig{Config: s.cfg}, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.sender.Close() })
	return s
}

// send sends the next messages of the keys to a topic: "<key>-0", "<key>-1" and so on.
func (s *site) send(topic string, keys ...string) {
	s.t.Helper()
	var batch []event.Addressed
	for _, key := range keys {
		batch = append(batch, event.Addressed{Topic: topic, Event: event.Event{
			ID: fmt.Sprintf("%s-%d", key, s.sent[key]), Type: "test.happened", Source: "/test", Key: key, Time: noon, Data: []byte(`{}`),
		}})
		s.sent[key]++
	}
	for _, err := range s.sender.SendBatch(s.t.Context(), batch) {
		require.NoError(s.t, err)
	}
}

// committed is up to where the group has committed a topic.
func (s *site) committed(topic string) func() int64 {
	return func() int64 {
		if info := s.cluster.GroupInfo("g"); info != nil {
			return info.Commits[topic][0].Offset
		}
		return 0
	}
}

func (s *site) count() (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRowContext(s.t.Context(), `SELECT COUNT(*) FROM parked`).Scan(&n))
	return n
}

// member is a member of the group, and what was handled by it.
type member struct {
	*kafka.Subscriber
	*parking.Store
	site *site
	mu   sync.Mutex
	// order is by key; a message that failed is not in it.
	order map[string][]string
	// tries are the attempts that each message was handed out with.
	tries map[string][]int
}

// start starts a member. handle says what becomes of a message and acknowledges it, or returns false: then it is
// done, and acknowledged.
func (s *site) start(cfg kafka.SubscriberConfig, handle func(m *member, msg *message.Message) bool) *member {
	s.t.Helper()
	m := &member{site: s, Store: newStore(s.db), order: map[string][]string{}, tries: map[string][]int{}}
	if cfg.Parking == nil {
		cfg.Parking = m.Store
	}
	cfg.Config, cfg.Group, cfg.NackDelay = s.cfg, "g", time.Millisecond
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 2 * time.Second
	}
	var err error
	m.Subscriber, err = kafka.NewSubscriber(cfg, quiet)
	require.NoError(s.t, err)
	var all sync.WaitGroup
	for _, topic := range cfg.Topics {
		messages, err := m.Subscribe(context.Background(), topic)
		require.NoError(s.t, err)
		all.Go(func() {
			for msg := range messages {
				all.Go(func() {
					m.mu.Lock()
					m.tries[msg.UUID] = append(m.tries[msg.UUID], kafka.DeliveryOf(msg.Context()).Attempts())
					m.mu.Unlock()
					if handle == nil || !handle(m, msg) {
						m.done(msg)
					}
				})
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	all.Go(func() { m.Run(ctx, quiet) })
	s.t.Cleanup(func() {
		_ = m.Close()
		cancel()
		all.Wait()
	})
	return m
}

func (m *member) done(msg *message.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := msg.Metadata[event.HeaderKey]
	m.order[key] = append(m.order[key], msg.UUID)
	msg.Ack()
}

// has waits until the member has done the messages of a key with these numbers, in this order.
func (m *member) has(key string, from, to int) {
	m.site.t.Helper()
	var want []string
	for n := from; n < to; n++ {
		want = append(want, fmt.Sprintf("%s-%d", key, n))
	}
	var got []string
	if !waitFor(func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		got = m.order[key]
		return len(got) >= len(want)
	}) {
		require.FailNow(m.site.t, "not all came", "%s: %v", key, got)
	}
	require.Equal(m.site.t, want, got)
}

func waitFor(is func() bool) bool {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		if is() {
			return true
		}
	}
	return false
}

func (m *member) triesOf(id string) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]int(nil), m.tries[id]...)
}

// later is a handler that has messages wait as long as wait says, and does those of which it says nothing.
func later(t *testing.T, wait func(msg *message.Message, attempts int) time.Duration) func(*member, *message.Message) bool {
	return func(_ *member, msg *message.Message) bool {
		d := kafka.DeliveryOf(msg.Context())
		for tried := d.Attempts(); ; tried++ {
			pause := wait(msg, tried)
			if pause == 0 {
				return false
			}
			switch parked, err := d.Wait(msg.Context(), pause, tried+1); {
			case err != nil:
				msg.Nack()
				return true
			case parked:
				require.True(t, msg.Ack())
				return true
			}
		}
	}
}

func isKey(msg *message.Message, key string) bool { return msg.Metadata[event.HeaderKey] == key }

func keys(of func(int) string, n int) (all []string) {
	for i := range n {
		all = append(all, of(i))
	}
	return all
}

// A key that fails, with a tail that alone would fill the partition's room, holds up no other: those go on, and the offset
// with them. Then it goes on itself, in order, and what comes new waits behind it.
func TestFailingKeyHoldsUpNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", keys(func(i int) string { return []string{"bad", "good", "bad"}[i%3] }, 120)...)
		open := make(chan struct{})
		m := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, MaxInFlight: 4}, later(t, func(msg *message.Message, _ int) time.Duration {
			if !isKey(msg, "bad") || isClosed(open) {
				return 0
			}
			return 500 * time.Millisecond // less than is parked for itself: it is pressed for room
		}))
		m.has("good", 0, 40)
		require.Eventually(t, func() bool { return s.committed("t")() == 120 }, patience, tick, "the offset moves on")
		s.send("t", "bad", "good")
		m.has("good", 0, 41)
		require.Eventually(t, func() bool { return s.count() == 81 }, patience, tick)
		close(open)
		m.has("bad", 0, 81)
		require.Eventually(t, func() bool { return s.count() == 0 }, patience, tick)
		s.send("t", "bad", "good")
		m.has("bad", 0, 82)
		require.Eventually(t, func() bool { return s.count() == 0 }, patience, tick)
	})
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A handler that takes long leaves its key's tail no more room than others want.
func TestSlowKeyHoldsUpNobody(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", keys(func(i int) string { return []string{"slow", "good", "slow"}[i%3] }, 60)...)
		open := make(chan struct{})
		release := sync.OnceFunc(func() { close(open) })
		defer release()
		m := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, MaxInFlight: 4, ParkAfter: 20 * time.Millisecond}, func(_ *member, msg *message.Message) bool {
			if msg.UUID == "slow-0" {
				<-open
			}
			return false
		})
		m.has("good", 0, 20)
		require.Zero(t, s.committed("t")())
		require.Eventually(t, func() bool { return s.count() == 40 }, patience, tick, "the first too, should the process be killed")
		release()
		m.has("slow", 0, 40)
		require.Eventually(t, func() bool { return s.count() == 0 && s.committed("t")() == 60 }, patience, tick)
	})
}

// What is parked outlives the member, with its attempts, and belongs to whoever has the partition next.
func TestParkedOutlivesTheMember(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", "bad", "bad", "good", "bad")
		first := s.start(kafka.SubscriberConfig{Topics: []string{"t"}}, later(t, func(msg *message.Message, tried int) time.Duration {
			if isKey(msg, "bad") {
				return []time.Duration{time.Second, 2 * time.Second, time.Hour}[tried] // long enough to be parked
			}
			return 0
		}))
		first.has("good", 0, 1)
		require.Eventually(t, func() bool { return len(first.triesOf("bad-0")) == 3 && s.committed("t")() == 4 }, patience, tick)
		require.Equal(t, []int{0, 1, 2}, first.triesOf("bad-0"))
		require.Eventually(t, func() bool { return attempts(t, db, 0) == 3 }, patience, tick)
		require.NoError(t, first.Close())
		_, err := db.ExecContext(t.Context(), `UPDATE parked SET due_at = parked_at`) // an hour has passed
		require.NoError(t, err)
		s.send("t", "bad")
		second := s.start(kafka.SubscriberConfig{Topics: []string{"t"}}, nil)
		second.has("bad", 0, 4)
		require.Equal(t, []int{3}, second.triesOf("bad-0"))
		require.Equal(t, []int{0}, second.triesOf("bad-1"))
	})
}

func attempts(t *testing.T, db *database.DB, offset int64) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT attempts FROM parked WHERE record_offset = $1`, offset).Scan(&n))
	return n
}

// half is a Parking that stores, and then never says so: as if the process were killed between that and the offset.
type half struct {
	*parking.Store
	parked chan struct{}
}

func (h half) Park(ctx context.Context, messages ...kafka.Parked) error {
	if err := h.Store.Park(ctx, messages...); err != nil {
		return err
	}
	close(h.parked)
	<-ctx.Done()
	return ctx.Err()
}

// Killed between parking and the offset's commit: all comes again from the log, behind what is parked.
func TestKilledBetweenParkingAndCommit(t *testing.T) {
	t.Parallel()
	for _, g := range []kafka.Guarantee{kafka.AtLeastOnce, kafka.EffectivelyOnce} {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, db *database.DB) {
				s := newSite(t, db, "t")
				s.send("t", "bad", "bad", "bad")
				h := half{newStore(db), make(chan struct{})}
				first := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, Guarantee: g, Parking: h}, later(t, func(*message.Message, int) time.Duration { return time.Second }))
				<-h.parked
				require.NoError(t, first.Close())
				require.Zero(t, s.committed("t")())
				require.Equal(t, 3, s.count())
				s.send("t", "bad", "good")
				second := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, Guarantee: g}, nil)
				second.has("bad", 0, 4)
				second.has("good", 0, 1)
				require.Equal(t, []int{1}, second.triesOf("bad-0"))
				require.Eventually(t, func() bool { return s.count() == 0 && s.committed("t")() == 5 }, patience, tick)
			})
		})
	}
}

// late is a Parking to which messages take a while.
type late struct{ *parking.Store }

func (l late) Park(ctx context.Context, messages ...kafka.Parked) error {
	<-time.After(200 * time.Millisecond)
	return l.Store.Park(ctx, messages...)
}

// Where messages may take effect twice, the last effect is still that of the last message: what comes again from the log
// comes before what is parked behind it.
func TestComesAgainBeforeWhatIsParkedBehind(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", "k", "k", "k")
		last := parked(0, 2, "k", "{}") // the others were handled, but their offsets were not committed
		last.Headers = map[string]string{
			"ce_id": "k-2", "ce_type": "test.happened", "ce_source": "/test", "ce_specversion": "1.0", "ce_time": "2026-01-02T03:04:05Z", "ce_partitionkey": "k",
		}
		require.NoError(t, newStore(db).Park(t.Context(), last))
		m := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, Guarantee: kafka.AtLeastOnce, Parking: late{newStore(db)}}, nil)
		m.has("k", 0, 3)
	})
}

// A key that is blocked in one topic waits in all of them, and goes on in each one's order when it is let go. That is told
// to another process too.
func TestBlockedKeyWaits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t", "u")
		s.send("t", "k", "k", "good")
		block := func(m *member, msg *message.Message) bool {
			if msg.UUID != "k-0" {
				return false
			}
			d := kafka.DeliveryOf(msg.Context())
			r, _ := kafka.RecordOf(msg)
			require.True(t, d.Room())
			require.NoError(t, m.Park(msg.Context(), kafka.Parked{Record: r, Attempts: 3, Due: noon}))
			require.NoError(t, m.Block(msg.Context(), r))
			d.Block()
			msg.Ack()
			return true
		}
		config := kafka.SubscriberConfig{Topics: []string{"t", "u"}}
		m := s.start(config, block)
		m.has("good", 0, 1)
		require.Eventually(t, func() bool { return m.Held("t", "k") }, patience, tick)
		s.send("u", "k", "k", "good")
		s.send("t", "k")
		m.has("good", 0, 2)
		require.Eventually(t, func() bool { return s.committed("t")() == 4 && s.committed("u")() == 3 }, patience, tick)
		require.Equal(t, 5, s.count())
		require.NoError(t, m.Close())

		m = s.start(config, block)
		s.send("u", "k", "good")
		m.has("good", 2, 3)
		require.Eventually(t, func() bool { return s.count() == 6 }, patience, tick)
		require.Empty(t, m.triesOf("k-1"))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			return newStore(db).Release(ctx, tx, "t-0-0")
		}))
		require.True(t, waitFor(func() bool { return s.count() == 0 }))
		m.mu.Lock()
		defer m.mu.Unlock()
		var inT, inU []string
		for _, id := range m.order["k"] {
			if id == "k-1" || id == "k-4" {
				inT = append(inT, id)
			} else {
				inU = append(inU, id)
			}
		}
		require.Equal(t, []string{"k-1", "k-4"}, inT)
		require.Equal(t, []string{"k-2", "k-3", "k-5"}, inU)
	})
}

// The table has a bound: beyond it messages wait in memory, and the partition with them, until there is room.
func TestParkedIsBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", keys(func(i int) string { return fmt.Sprint("k", i) }, 20)...)
		open := make(chan struct{})
		m := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, MaxInFlight: 4, ParkedMax: 5}, later(t, func(*message.Message, int) time.Duration {
			if isClosed(open) {
				return 0
			}
			return 200 * time.Millisecond
		}))
		tried := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.tries)
		}
		require.Eventually(t, func() bool { return tried() >= 5 }, patience, tick)
		// Those in hand may all be parked at once, and then as many wait in memory.
		require.Never(t, func() bool { return tried() > 5+4+4 }, 500*time.Millisecond, tick)
		require.LessOrEqual(t, s.count(), 5+4)
		close(open)
		for i := range 20 {
			m.has(fmt.Sprint("k", i), 0, 1)
		}
	})
}

// A message that waits in memory for its next attempt does not delay the member's end, nor a rebalance, whatever the
// drain's bound is: it comes again at the next member.
func TestWaitingMessageDelaysNoDrain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		s := newSite(t, db, "t")
		s.send("t", "k", "k")
		first := s.start(kafka.SubscriberConfig{Topics: []string{"t"}, ParkAfter: 2 * time.Hour, DrainTimeout: time.Hour},
			later(t, func(*message.Message, int) time.Duration { return time.Hour }))
		require.Eventually(t, func() bool { return len(first.triesOf("k-0")) == 1 }, patience, tick)
		closed := make(chan error, 1)
		go func() { closed <- first.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(patience):
			require.Fail(t, "the message holds the member up")
		}
		require.Zero(t, s.count())
		s.start(kafka.SubscriberConfig{Topics: []string{"t"}}, nil).has("k", 0, 2)
	})
}
