package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

func TestWhoWaitsSharesATransaction(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		var hooks sync.Map
		b.handle = func(ctx context.Context, tx *outbox.Tx, key string, _ int) error {
			tx.AfterCommit(func() { hooks.Store(key, true) })
			if err := b.db.InTx(ctx, func(context.Context, *database.Tx) error { return nil }); fault.KindOf(err) != fault.Permanent {
				return fmt.Errorf("a transaction inside of the transaction: %w", err)
			}
			return nil
		}
		b.acked(b.batch(300))
		b.tookEffect(301)
		transactions, messages := b.committed()
		require.Equal(t, []int{3, 301}, []int{transactions, messages}, "1, then 256, then 44")

		rows, err := b.db.QueryContext(t.Context(), `SELECT aggregateid, headers FROM outbox`)
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var key, text string
			require.NoError(t, rows.Scan(&key, &text))
			headers := map[string]string{}
			require.NoError(t, json.Unmarshal([]byte(text), &headers))
			if key != "gate" {
				require.Equal(t, "id"+key, headers[event.HeaderCausationID], "each has its own cause")
				_, ok := hooks.Load(key)
				require.True(t, ok, "hook of %s", key)
			}
		}
		require.NoError(t, rows.Err())
	})
}

// One message in a batch of 256 fails, in every way in which one can. It ends as it would alone, all others commit together.
func TestOneFailsInABatch(t *testing.T) {
	t.Parallel()
	sqlite := func(url string) bool { return url[:6] == "sqlite" }
	for name, tc := range map[string]struct {
		fail func(ctx context.Context, tx *outbox.Tx, call int) error
		// calls of the handler, the one in the batch included, and how it ends: a kind of dead letter, "" when it
		// succeeds, "lost" when it is neither acknowledged nor given up.
		calls int
		end   string
		// sqliteGoesOn: SQLite does not mind.
		sqliteGoesOn bool
	}{
		"error":     {fail: func(context.Context, *outbox.Tx, int) error { return errors.New("no") }, calls: 4, end: "transient"},
		"permanent": {fail: func(context.Context, *outbox.Tx, int) error { return fault.Permanentf("never") }, calls: 2, end: "permanent"},
		"panic":     {fail: func(context.Context, *outbox.Tx, int) error { panic("no idea") }, calls: 4, end: "transient"},
		"goroutine ends": {fail: func(context.Context, *outbox.Tx, int) error {
			runtime.Goexit()
			return nil
		}, calls: 2, end: "lost"},
		"statement": {fail: func(ctx context.Context, tx *outbox.Tx, _ int) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ('x', 'gate')`)
			return err
		}, calls: 4, end: "transient"},
		"statement, and keeps it to itself": {fail: func(ctx context.Context, tx *outbox.Tx, _ int) error {
			_, _ = tx.ExecContext(ctx, `INSERT INTO effects (key, id) VALUES ('x', 'gate')`)
			return nil
		}, calls: 4, end: "transient", sqliteGoesOn: true},
		"event that cannot be sent": {fail: func(_ context.Context, tx *outbox.Tx, _ int) error {
			tx.Forward(event.Addressed{Topic: "done"})
			return nil
		}, calls: 2, end: "permanent"},
		"own deadline": {fail: func(ctx context.Context, tx *outbox.Tx, _ int) error {
			ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
			defer cancel()
			<-ctx.Done()
			_, err := tx.ExecContext(ctx, `DELETE FROM effects`)
			return err
		}, calls: 4, end: "transient"},
		"once": {fail: func(_ context.Context, _ *outbox.Tx, call int) error {
			if call == 1 {
				return errors.New("not now")
			}
			return nil
		}, calls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				tc, b := tc, newBench(t, url, kafka.EffectivelyOnce)
				var hooks sync.Map
				b.handle = func(ctx context.Context, tx *outbox.Tx, key string, call int) error {
					tx.AfterCommit(func() { hooks.Store(key, true) })
					if key == "100" {
						return tc.fail(ctx, tx, call)
					}
					return nil
				}
				msgs := b.batch(256)
				if tc.end == "lost" {
					b.acked(msgs, 101)
				} else {
					b.acked(msgs)
				}
				if tc.sqliteGoesOn && sqlite(url) {
					tc.end, tc.calls = "", 1
				}
				letters := b.deadLetters()
				_, hooked := hooks.Load("100")
				require.Equal(t, tc.end == "", hooked, "hooks of what was undone are not called")
				if tc.end == "" {
					require.Empty(t, letters)
					b.tookEffect(257)
				} else {
					b.tookEffect(256)
					require.Zero(t, b.count(`SELECT COUNT(*) FROM inbox WHERE message_id = 'id100'`))
				}
				if tc.end == "transient" || tc.end == "permanent" {
					require.Len(t, letters, 1)
					require.Equal(t, "100", string(letters[0].Key))
					require.Equal(t, tc.end, letters[0].Headers[deadletter.HeaderErrorType])
				}
				require.Equal(t, tc.calls, b.callsOf("100"))
				if tc.end != "lost" { // with its goroutine goes the batch
					transactions, _ := b.committed()
					require.LessOrEqual(t, transactions, 3, "the gate's, the others', and its own if it came to that")
				}
			})
		})
	}
}

// However many fail, a handler is called in the batch, once more with a savepoint, and by itself.
func TestManyFailInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		bad := func(key string) bool { return len(key)%2 == 0 } // 10 to 99
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
			if bad(key) {
				return fault.Permanentf("never")
			}
			return nil
		}
		b.acked(b.batch(200))
		require.Len(t, b.deadLetters(), 90)
		b.tookEffect(111)
		for key := range 200 {
			require.LessOrEqual(t, b.callsOf(fmt.Sprint(key)), 2)
		}
		transactions, _ := b.committed()
		require.Equal(t, 2, transactions)
	})
}

// What the database says of transactions in each other's way is no message's fault: no attempt is used up.
func TestConflictInABatch(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"serialization": "40001", "deadlock": "40P01", "lock timeout": "55P03"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				b := newBench(t, url, kafka.EffectivelyOnce)
				b.handle = func(_ context.Context, _ *outbox.Tx, key string, call int) error {
					if key == "20" && call == 1 {
						return &pgconn.PgError{Code: code}
					}
					return nil
				}
				b.acked(b.batch(40))
				b.tookEffect(41)
				require.Empty(t, b.deadLetters())
				require.Zero(t, b.metric("consumer_retries_total").GetCounter().GetValue())
				for key := range 40 {
					require.LessOrEqual(t, b.callsOf(fmt.Sprint(key)), 2)
				}
			})
		})
	}
}

func TestDuplicatesInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, call int) error {
			if key == "bad" && call == 1 {
				return errors.New("not now")
			}
			return nil
		}
		msgs := []*message.Message{b.closeGate()}
		for _, m := range [][2]string{{"gate", "gate"}, {"a", "1"}, {"b", "2"}, {"c", "1"}, {"bad", "3"}, {"other", "3"}, {"a", "1"}} {
			msgs = append(msgs, b.send(m[0], m[1]))
		}
		b.openGate(7)
		b.acked(msgs)
		b.tookEffect(4) // gate, 1, 2, 3
		require.EqualValues(t, 4, b.metric("consumer_duplicates_total").GetCounter().GetValue())
	})
}

func TestOrderInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, call int) error {
			if key == "bad" && call == 1 {
				return errors.New("not now")
			}
			return nil
		}
		msgs := []*message.Message{b.closeGate()}
		const n = 12
		for i := range n {
			key := "k"
			if i == n/2 {
				key = "bad" // what is done again is done in the same order
			}
			msgs = append(msgs, b.send(key, fmt.Sprintf("%02d", i)))
			b.eventually(func() bool { return b.metric("consumer_batch_waiting").GetGauge().GetValue() == float64(i+1) }, "it waits")
		}
		b.openGate(n)
		b.acked(msgs)
		b.tookEffect(n + 1)
		require.Zero(t, b.count(`SELECT COUNT(*) FROM effects a JOIN effects b ON a.key = b.key AND a.seq < b.seq AND a.id > b.id`))
	})
}

// After the commit nobody tells the batch that it took place; each message finds that out in the inbox.
func TestNobodyKnowsWhetherABatchCommitted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panic": func() { panic("after the commit") }, "goroutine ends": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databasetest.Each(t, func(t *testing.T, url string) {
				b := newBench(t, url, kafka.EffectivelyOnce)
				b.handle = func(_ context.Context, tx *outbox.Tx, key string, _ int) error {
					if key == "5" {
						tx.AfterCommit(end)
					}
					return nil
				}
				msgs := b.batch(20)
				b.acked(msgs)
				b.tookEffect(21)
				require.Empty(t, b.deadLetters())
				for key := range 20 {
					require.Equal(t, 1, b.callsOf(fmt.Sprint(key)))
				}
				b.acked([]*message.Message{b.send("later", "later")})
			})
		})
	}
}

// A stop in the middle of a batch lets it commit.
func TestStopInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		inside, goOn := make(chan struct{}), make(chan struct{})
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
			if key == "25" {
				close(inside)
				<-goOn
			}
			return nil
		}
		msgs := b.batch(50)
		<-inside
		b.stop()
		_, open := <-b.work // the router has closed the subscriber
		require.False(t, open)
		close(goOn)
		b.acked(msgs)
		b.tookEffect(51)
	})
}
