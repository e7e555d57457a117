package outbox_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
)

var (
	history = flag.Int("outbox.history", 200_000, "rows that were sent and deleted before BenchmarkRelay measures")
	waiting = flag.Int("outbox.waiting", 50_000, "rows that wait while BenchmarkRelay measures")
)

// BenchmarkPublish is what a transaction that publishes so many events costs, its begin and commit included. An op is an event.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			databasetest.EachBench(b, func(b *testing.B, url string) {
				box := newBox(databasetest.Open(b, url, migrations), outbox.Options{})
				ns := make([]int, size)
				b.ReportAllocs()
				b.ResetTimer()
				for range (b.N + size - 1) / size {
					publish(b, box, "key", ns...)
				}
			})
		})
	}
}

// BenchmarkRelay is what a row costs from its insert to its deletion, with a sender that answers at once: 1,000 rows of
// 100 keys are committed at a time, and the next when those are sent. What the table went through before comes with
// the sub-benchmark: -outbox.history rows sent, -outbox.waiting rows that wait.
func BenchmarkRelay(b *testing.B) {
	databasetest.EachBench(b, func(b *testing.B, url string) {
		db := databasetest.Open(b, url, migrations)
		b.Run("empty", func(b *testing.B) { steady(b, db, 100) })
		b.Run("one key", func(b *testing.B) { steady(b, db, 1) })
		if db.Dialect() == database.SQLite {
			return
		}
		b.Run("one row at a time", func(b *testing.B) { singly(b, db) })
		past(b, db, *history)
		b.Run("after many", func(b *testing.B) { steady(b, db, 100) })
		b.Run("after many, one row at a time", func(b *testing.B) { singly(b, db) })
		fill(b, db, *waiting, 1, "stuck")
		b.Run("beside a stuck key", func(b *testing.B) { steady(b, db, 100) })
		exec(b, db, `DELETE FROM outbox`)

		// As a backup or a report has one: what is deleted from now on stays in the table and its index.
		require.NoError(b, db.InTx(b.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT txid_current(), set_config('idle_in_transaction_session_timeout', '0', true)`)
			if err == nil {
				past(b, db, *history)
				b.Run("under an old snapshot", func(b *testing.B) { steady(b, db, 100) })
			}
			return err
		}))
		b.Run("all due", func(b *testing.B) {
			fill(b, db, b.N, 1000, "key")
			relay(b, db, b.N, nil)
		})
	})
}

// relay runs one until it has sent n rows. begin is called when it runs.
func relay(b *testing.B, db *database.DB, n int, begin func(box *outbox.Outbox, sent <-chan int)) {
	b.Helper()
	box, sent, total := newBox(db, outbox.Options{}), make(chan int, n), 0
	r := box.Relay(promised(func(a event.Addressed) error {
		if strings.HasPrefix(a.Event.Key, "stuck") {
			return fault.Unavailablef("stuck")
		}
		if total++; total <= n {
			sent <- total
		}
		return nil
	}), outbox.RelayOptions{})
	b.ReportAllocs()
	b.ResetTimer()
	stop := run(b, r)
	if begin != nil {
		begin(box, sent)
	} else {
		for range n {
			<-sent
		}
	}
	stop()
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// steady puts in 1,000 rows at a time.
func steady(b *testing.B, db *database.DB, keys int) {
	const batch = 1000
	relay(b, db, b.N, func(box *outbox.Outbox, sent <-chan int) {
		for from := 0; from < b.N; from += batch {
			n := min(batch, b.N-from)
			require.NoError(b, box.InTx(b.Context(), func(ctx context.Context, tx *outbox.Tx) error {
				if n > 1 {
					if err := insert(ctx, tx, n-1, keys, "key"); err != nil {
						return err
					}
				}
				_, err := tx.Publish(ctx, "last", done{}) // it wakes the relay
				return err
			}))
			for range n {
				<-sent
			}
		}
	})
}

// singly puts in one row, and the next when that is sent.
func singly(b *testing.B, db *database.DB) {
	relay(b, db, b.N, func(box *outbox.Outbox, sent <-chan int) {
		for range b.N {
			publish(b, box, "key", 1)
			<-sent
		}
	})
}

func exec(b testing.TB, db *database.DB, query string, args ...any) {
	b.Helper()
	_, err := db.ExecContext(context.Background(), query, args...)
	require.NoError(b, err)
}

// insert puts n rows of so many keys into the outbox, without a relay's knowing.
func insert(ctx context.Context, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, n, keys int, prefix string) error {
	const headers = `{"ce_specversion":"1.0","ce_type":"work.done","ce_source":"/test","content-type":"application/json",` +
		`"ce_time":"2026-01-01T00:00:00Z","ce_correlationid":"018f0000-0000-7000-8000-000000000000","ce_id":"id","ce_partitionkey":"`
	_, err := db.ExecContext(ctx, `WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < CAST($1 AS INTEGER))
		INSERT INTO outbox (id, aggregatetype, aggregateid, type, topic, headers, payload, created_at)
		SELECT 'id', 'work', CAST($3 AS TEXT) || (i % CAST($2 AS INTEGER)), 'work.done', 'work.done',
			CAST($4 AS TEXT) || CAST($3 AS TEXT) || (i % CAST($2 AS INTEGER)) || '"}', CAST($5 AS TEXT), CAST($6 AS TIMESTAMP) FROM numbers`,
		n, keys, prefix, headers, `{"n":1,"text":"`+strings.Repeat("x", 300)+`"}`, time.Now().UTC())
	return err
}

func fill(b *testing.B, db *database.DB, n, keys int, prefix string) {
	b.Helper()
	for from := 0; from < n; from += 100_000 {
		require.NoError(b, insert(b.Context(), db, min(100_000, n-from), keys, prefix))
	}
}

// past is n rows in the table's past: put in 100,000 at a time, and deleted 500 at a time as the relay does.
func past(b *testing.B, db *database.DB, n int) {
	b.Helper()
	for from := 0; from < n; from += 100_000 {
		fill(b, db, min(100_000, n-from), 1000, "key")
		exec(b, db, `DO $$ DECLARE first bigint; last bigint; BEGIN
			SELECT min(seq), max(seq) INTO first, last FROM outbox;
			WHILE first <= last LOOP
				DELETE FROM outbox WHERE seq >= first AND seq < first + 500;
				COMMIT;
				first := first + 500;
			END LOOP;
		END $$`)
	}
}
