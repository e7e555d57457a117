package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// Members come and go under load, whatever the assignor and the kind of membership, and some messages fail and are parked:
// each key's messages take effect one after the other, none of them not at all, twice, or before an earlier one.
func TestKeysStayInOrderWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	for _, eager := range []bool{false, true} {
		for _, static := range []bool{false, true} {
			t.Run(fmt.Sprintf("eager=%t/static=%t", eager, static), func(t *testing.T) {
				t.Parallel()
				comeAndGo(t, eager, static)
			})
		}
	}
}

// happened is the event of addressed.
type happened struct{}

func (happened) EventType() string  { return "test.happened" }
func (happened) EventTopic() string { return "topic" }

// effects is what a group has done, in a database that its members share.
type effects struct {
	t     *testing.T
	cfg   kafka.Config
	eager bool
	db    *database.DB

	mu     sync.Mutex
	failed map[string]bool
}

// member starts a member of the group, a static one if it has a name, and returns how to stop it. Every ninth message fails once.
func (f *effects) member(name string) (stop func()) {
	t := f.t
	box := outbox.New(f.db, event.NewFactory("/test"), outbox.Options{})
	store := parking.New(f.db, "group", time.Now)
	c, err := consumer.New(
		consumer.Config{MaxAttempts: 3, BackoffInitial: 20 * time.Millisecond, BackoffMax: time.Second, BatchMax: 64},
		consumer.Deps{
			Group: "group", DB: f.db, Outbox: box, Parking: store, DeadLetters: deadletter.NewStore(f.db, publisher(t, f.cfg), time.Now),
			Sender: publisher(t, f.cfg), Validate: func(string, []byte) error { return nil }, Logger: quiet, Registry: prometheus.NewRegistry(), Now: time.Now,
		})
	require.NoError(t, err)
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, _ happened) error {
		f.mu.Lock()
		again := f.failed[e.ID]
		f.failed[e.ID] = true
		fails := !again && len(f.failed)%9 == 0
		f.mu.Unlock()
		if fails {
			return errors.New("not at first")
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ($1, $2)`, e.Key, e.ID)
		return err
	})
	sub := subscriber(t, kafka.SubscriberConfig{
		Config: f.cfg, Topics: c.Topics(), MaxInFlight: 16, Parking: store, ParkAfter: 15 * time.Millisecond,
		SessionTimeout: 6 * time.Second, DrainTimeout: 5 * time.Second, InstanceID: name,
	})
	if f.eager {
		sub.Eager()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, sub) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	require.Eventually(t, sub.Joined, patience, tick)
	return stop
}

func (f *effects) count() (n int) {
	f.t.Helper()
	require.NoError(f.t, f.db.QueryRowContext(f.t.Context(), `SELECT COUNT(*) FROM effects`).Scan(&n))
	return n
}

// ofKeys are the ids by key, in their order.
func (f *effects) ofKeys() map[string][]string {
	f.t.Helper()
	all := map[string][]string{}
	rows, err := f.db.QueryContext(f.t.Context(), `SELECT key, id FROM effects ORDER BY seq`)
	require.NoError(f.t, err)
	defer rows.Close()
	for rows.Next() {
		var key, id string
		require.NoError(f.t, rows.Scan(&key, &id))
		all[key] = append(all[key], id)
	}
	require.NoError(f.t, rows.Err())
	return all
}

func comeAndGo(t *testing.T, eager, static bool) {
	const keys, most = 30, 300
	redrive := deadletter.RedriveTopic("group")
	cluster, cfg := broker(t, 6, "topic", redrive)
	f := &effects{t: t, cfg: cfg, eager: eager, failed: map[string]bool{}}
	f.db = databasetest.Open(t, "sqlite:"+t.TempDir()+"/test.db", map[string]fs.FS{
		"outbox": outbox.Migrations, "inbox": inbox.Migrations, "parked": parking.Migrations, "dead_letters": deadletter.Migrations,
		"effects": fstest.MapFS{"0001_effects.sql": {Data: []byte("-- +goose Up\nCREATE TABLE effects (seq {{identity}}, key TEXT NOT NULL, id TEXT NOT NULL);")}},
	})
	start := func(name string) func() {
		if !static {
			name = ""
		}
		return f.member(name)
	}
	// The sender goes on for as long as members come and go.
	p := publisher(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sent := make(chan int, 1)
	go func() {
		n := 0
		for ; n < most && ctx.Err() == nil; n++ {
			var batch []event.Addressed
			for k := range keys {
				batch = append(batch, addressed("topic", fmt.Sprintf("key%d", k), n))
			}
			for _, err := range p.SendBatch(context.Background(), batch) {
				if err != nil {
					t.Error(err)
				}
			}
			// Not so far ahead that a slow machine could not come up with it in the end.
			for handled := 0; ; {
				<-time.After(100 * time.Millisecond)
				err := f.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM effects`).Scan(&handled)
				if err != nil || handled >= keys*(n-10) {
					break
				}
			}
		}
		sent <- n
	}()
	goesOn := func(want ...int) {
		t.Helper()
		require.Eventually(t, func() bool {
			got := assigned(t, cluster, "group")
			slices.Sort(got)
			return slices.Equal(got, want)
		}, patience, tick, "partitions: %v", want)
		from := f.count()
		require.Eventually(t, func() bool { return f.count() > from+keys || f.count() == keys*most }, patience, tick)
	}
	first := start("a")
	goesOn(12)
	second := start("b")
	goesOn(6, 6)
	first()
	if !static { // else they wait for it
		goesOn(12)
	}
	first = start("a")
	goesOn(6, 6)
	start("c")
	goesOn(4, 4, 4)
	second()
	if static {
		start("b")
		goesOn(4, 4, 4)
	} else {
		goesOn(6, 6)
	}
	first()
	stop()
	each := <-sent
	if static {
		start("a")
	}
	if !assert.Eventually(t, func() bool { return f.count() >= keys*each }, patience, tick) {
		t.Fatalf("lost: of %d messages %d were handled", keys*each, f.count())
	}
	for key, got := range f.ofKeys() {
		var want []string
		for n := range each {
			want = append(want, fmt.Sprintf("%s-%d", key, n))
		}
		require.Equal(t, want, got)
	}
}
