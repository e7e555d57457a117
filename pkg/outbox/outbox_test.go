package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// done is a message of the tests.
type done struct {
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

func (done) EventType() string  { return "work.done" }
func (done) EventTopic() string { return "work.done" }

var migrations = map[string]fs.FS{
	"outbox": outbox.Migrations,
	"effects": fstest.MapFS{"0001_effects.sql": {Data: []byte(`-- +goose Up
CREATE TABLE effects (id TEXT PRIMARY KEY, n BIGINT NOT NULL);`)}},
}

func each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, url string) { fn(t, databasetest.Open(t, url, migrations)) })
}

func newBox(db *database.DB, opts outbox.Options) *outbox.Outbox {
	return outbox.New(db, event.NewFactory("/test"), opts)
}

func publish(t testing.TB, box *outbox.Outbox, key string, ns ...int) {
	t.Helper()
	require.NoError(t, box.InTx(context.Background(), func(ctx context.Context, tx *outbox.Tx) error {
		for _, n := range ns {
			if _, err := tx.Publish(ctx, key, done{N: n}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func rowCount(t testing.TB, db *database.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(context.Background(), `SELECT COUNT(*) FROM outbox`).Scan(&n))
	return n
}

func effectCount(t *testing.T, db *database.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM effects`).Scan(&n))
	return n
}

// Invariant 1: effect and outbox rows commit in one transaction, or none does.
func TestEffectsAndRowsCommitTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{})
		work := func(ctx context.Context, tx *outbox.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO effects (id, n) VALUES ($1, 1)`, "a"); err != nil {
				return err
			}
			_, err := tx.Publish(ctx, "a", done{N: 1})
			return err
		}
		cause := errors.New("cause")
		require.ErrorIs(t, box.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
			require.NoError(t, work(ctx, tx))
			return cause
		}), cause)
		require.Panics(t, func() {
			_ = box.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
				require.NoError(t, work(ctx, tx))
				panic("boom")
			})
		})
		require.Equal(t, []int{0, 0}, []int{effectCount(t, db), rowCount(t, db)})

		// The rows cannot be written: the effect goes too.
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `ALTER TABLE outbox RENAME TO hidden`)
			return err
		}))
		require.Error(t, box.InTx(t.Context(), work))
		require.Equal(t, 0, effectCount(t, db))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `ALTER TABLE hidden RENAME TO outbox`)
			return err
		}))

		require.NoError(t, box.InTx(t.Context(), work))
		require.Equal(t, []int{1, 1}, []int{effectCount(t, db), rowCount(t, db)})
	})
}

func TestColumnsAreTheEventRouters(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{})
		var e event.Event
		ctx := event.WithCause(t.Context(), event.Cause{ID: "cause", CorrelationID: "story"})
		require.NoError(t, box.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) (err error) {
			e, err = tx.Publish(ctx, "order-1", done{N: 7})
			return err
		}))
		require.Equal(t, "cause", e.CausationID)
		require.Equal(t, "story", e.CorrelationID)
		var id, aggregateType, aggregateID, typ, topic, payload string
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT id, aggregatetype, aggregateid, type, topic, payload FROM outbox`).
			Scan(&id, &aggregateType, &aggregateID, &typ, &topic, &payload))
		require.Equal(t, []string{e.ID, "work", "order-1", "work.done", "work.done", `{"n":7}`}, []string{id, aggregateType, aggregateID, typ, topic, payload})
	})
}

func TestWhatCannotBeSentIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{MaxBytes: 1000, Validate: func(e event.Event) error {
			if string(e.Data) == `{"n":13}` {
				return errors.New("n must not be 13")
			}
			return nil
		}})
		good, err := event.NewFactory("/test").New(t.Context(), "work.done", "a", done{N: 1})
		require.NoError(t, err)
		with := func(change func(*event.Event)) event.Event { e := good; change(&e); return e }
		publishing := func(key string, body done) func(context.Context, *outbox.Tx) error {
			return func(ctx context.Context, tx *outbox.Tx) error {
				_, err := tx.Publish(ctx, key, body)
				return err
			}
		}
		forwarding := func(topic string, e event.Event) func(context.Context, *outbox.Tx) error {
			return func(_ context.Context, tx *outbox.Tx) error {
				tx.Forward(event.Addressed{Topic: topic, Event: e})
				return nil
			}
		}
		for want, work := range map[string]func(context.Context, *outbox.Tx) error{
			"at most 1000 are allowed":              publishing("a", done{Text: strings.Repeat("x", 1000)}),
			"n must not be 13":                      publishing("a", done{N: 13}),
			"header ce_partitionkey is missing":     publishing("", done{N: 1}),
			"must be UTF-8 without NUL":             publishing("a\x00b", done{N: 1}),
			"the topic is missing":                  forwarding("", good),
			"header ce_id is missing":               forwarding("work.done", with(func(e *event.Event) { e.ID = "" })),
			"body must be UTF-8 without NUL":        forwarding("work.done", with(func(e *event.Event) { e.Data = []byte{0xff} })),
			"body and headers have":                 forwarding("work.done", with(func(e *event.Event) { e.Data = make([]byte, 1001) })),
			"key, type, topic and body must be UTF": forwarding("work\x00done", good),
		} {
			err := box.InTx(t.Context(), work)
			require.ErrorContains(t, err, want)
			require.Equal(t, fault.Permanent, fault.KindOf(err), want)
		}
		require.Equal(t, 0, rowCount(t, db))
	})
}

func TestRewindForgetsWhatWasQueuedSince(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{})
		require.NoError(t, box.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
			_, err := tx.Publish(ctx, "a", done{N: 1})
			require.NoError(t, err)
			mark := tx.Mark()
			_, err = tx.Publish(ctx, "b", done{N: 2})
			require.NoError(t, err)
			tx.Forward(event.Addressed{Topic: "work.done"}) // could never be sent
			tx.Rewind(mark)
			_, err = tx.Publish(ctx, "c", done{N: 3})
			return err
		}))
		require.Equal(t, 2, rowCount(t, db))
		err := box.InTx(t.Context(), func(_ context.Context, tx *outbox.Tx) error {
			tx.Forward(event.Addressed{Topic: "work.done"})
			tx.Rewind(tx.Mark())
			return nil
		})
		require.Error(t, err, "what was refused before the mark is not forgotten")
	})
}

func TestSavepointForgetsWhatItsPartQueued(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box, cause := newBox(db, outbox.Options{}), errors.New("cause")
		require.NoError(t, box.InTx(t.Context(), func(ctx context.Context, tx *outbox.Tx) error {
			part := func(key string, end func() error) error {
				undone, err := tx.Savepoint(ctx, func() error {
					_, err := tx.Publish(ctx, key, done{N: 1})
					require.NoError(t, err)
					return end()
				})
				require.NoError(t, err)
				return undone
			}
			require.NoError(t, part("a", func() error { return nil }))
			require.ErrorIs(t, part("b", func() error { return cause }), cause)
			undone := part("c", func() error {
				tx.Forward(event.Addressed{Topic: "work.done"}) // could never be sent
				return nil
			})
			require.Equal(t, fault.Permanent, fault.KindOf(undone), undone)
			return nil
		}))
		require.Equal(t, 1, rowCount(t, db))
	})
}

func TestMoreRowsThanAStatementTakes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		box := newBox(db, outbox.Options{})
		ns := make([]int, 2*database.MaxRows+1)
		for i := range ns {
			ns[i] = i
		}
		publish(t, box, "a", ns...)
		rows, err := db.QueryContext(t.Context(), `SELECT payload FROM outbox ORDER BY seq`)
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for i := range ns {
			var payload string
			require.True(t, rows.Next())
			require.NoError(t, rows.Scan(&payload))
			require.Equal(t, fmt.Sprintf(`{"n":%d}`, i), payload)
		}
		require.False(t, rows.Next())
		require.NoError(t, rows.Err())
	})
}

func TestNowIsTheFactorysClockInUTC(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, db *database.DB) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 1_234_567, time.FixedZone("east", 3600))
		f := event.NewFactory("/test")
		f.Now = func() time.Time { return at }
		require.NoError(t, outbox.New(db, f, outbox.Options{}).InTx(t.Context(), func(_ context.Context, tx *outbox.Tx) error {
			require.Equal(t, at.UTC().Truncate(time.Microsecond), tx.Now(), "what every database keeps")
			return nil
		}))
	})
}
