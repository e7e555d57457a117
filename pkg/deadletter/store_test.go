package deadletter_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/kafka"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// fixture is a store with a clock and a topic of its own.
type fixture struct {
	*deadletter.Store
	db   *database.DB
	now  time.Time
	sent []kafka.Record
}

func (f *fixture) SendRecord(_ context.Context, r kafka.Record) error {
	f.sent = append(f.sent, r)
	return nil
}

func each(t *testing.T, fn func(t *testing.T, f *fixture)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, url string) {
		f := &fixture{now: noon, db: databasetest.Open(t, url, map[string]fs.FS{"dead_letters": deadletter.Migrations})}
		f.Store = deadletter.NewStore(f.db, f, func() time.Time { return f.now })
		fn(t, f)
	})
}

func (f *fixture) record(t *testing.T, l deadletter.Letter) {
	t.Helper()
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error { return f.Record(ctx, tx, l) }))
}

func letterOf(r kafka.Record, at time.Time) deadletter.Letter {
	return deadletter.FromRecord(deadletter.New(r, deadletter.Failure{
		Group: "g", ErrorType: deadletter.Permanent, Err: errors.New("no"), At: at,
	}), "g")
}

// The index reads one letter at a time and tries each until it is written: there must be none that cannot be.
func TestWhateverStandsInTheTopicIsWritten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		with := func(name, value string) map[string]string {
			h := deadletter.New(kafka.Record{Topic: "t", Offset: 7}, deadletter.Failure{Group: "g", Err: errors.New("no"), At: noon}).Headers
			h[name] = value
			return h
		}
		var long strings.Builder // no database compresses it to what fits into an index
		for i := range 9000 {
			long.WriteRune(rune('!' + (i*i*7919+i)%90))
		}
		for i, h := range []map[string]string{
			nil,
			{"anything": "\x00\xff"},
			with(deadletter.HeaderRetries, "99999999999"),
			with(deadletter.HeaderFailures, "99999999999"),
			with(deadletter.HeaderFailures, "1073741823"),
			with(deadletter.HeaderFailures, "-1"),
			with(deadletter.HeaderPartition, long.String()),
			with(deadletter.HeaderOffset, "99999999999999999999"),
			with(deadletter.HeaderTopic, long.String()),
			with(deadletter.HeaderTopic, "\x00\xff"),
			with(deadletter.HeaderFailedAt, "0000-01-01T00:00:00Z"),
			with(deadletter.HeaderError, "\x00\xff"),
			with("ce_id", "\x00\xff"+long.String()),
		} {
			r := kafka.Record{Topic: deadletter.Topic("g"), Offset: int64(i), Timestamp: noon, Value: []byte("\x00\xff"), Headers: h}
			f.record(t, deadletter.FromRecord(r, "g"))
		}
		_, err := f.Get(t.Context(), "t-0-7")
		require.NoError(t, err, "a letter with one odd header is still that letter")
		_, err = f.Get(t.Context(), "g.dlq-0-6")
		require.NoError(t, err, "one without a place has that in the dead-letter topic")
		list, err := f.List(t.Context(), deadletter.Filter{}, deadletter.Position{}, 100)
		require.NoError(t, err)
		require.Len(t, list, 7)
	})
}

// The same failure again is the same letter, and reading the topic from its beginning takes nothing back.
func TestReplayChangesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		// Nanoseconds, which PostgreSQL does not keep.
		first := letterOf(kafka.Record{Topic: "t"}, noon.Add(1))
		second := letterOf(first.Record(), noon.Add(time.Second+1))
		replay := func() {
			f.record(t, first)
			f.record(t, second)
		}
		replay()
		l, err := f.Redrive(t.Context(), first.ID, deadletter.By{Actor: "a"})
		require.NoError(t, err)
		require.Equal(t, 2, l.Failures)
		require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			return f.MarkRedriven(ctx, tx, first.ID)
		}))
		replay()
		l, err = f.Get(t.Context(), first.ID)
		require.NoError(t, err)
		require.Equal(t, deadletter.Redriven, l.State)
		require.Equal(t, 2, l.Failures)
	})
}

// A redriven letter that fails has failed again, whatever time it is where it failed. What was counted is not counted a
// second time: read again, or written again by a consumer that was killed, also when that is read late.
func TestEachFailureCountsOnce(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"later": time.Second, "at the same time": 0, "by a clock that is behind": -time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, f *fixture) {
				is := func(state deadletter.State, failures int) {
					t.Helper()
					l, err := f.Get(t.Context(), "t-0-0")
					require.NoError(t, err)
					require.Equal(t, []any{state, failures}, []any{l.State, l.Failures})
				}
				redriven := func() kafka.Record {
					t.Helper()
					_, err := f.Redrive(t.Context(), "t-0-0", by)
					require.NoError(t, err)
					return f.sent[len(f.sent)-1]
				}
				read := func(letters ...deadletter.Letter) {
					for _, l := range letters {
						f.record(t, l)
					}
				}
				first, twice := letterOf(kafka.Record{Topic: "t"}, noon), letterOf(kafka.Record{Topic: "t"}, noon.Add(time.Hour))
				read(first, first, twice)
				is(deadletter.Waiting, 1)
				r := redriven()
				read(first, twice)
				is(deadletter.Redriving, 1)
				second, secondTwice := letterOf(r, noon.Add(ahead)), letterOf(r, noon.Add(time.Hour))
				read(second, second, secondTwice)
				is(deadletter.FailedAgain, 2)
				r = redriven()
				read(first, twice, second, secondTwice) // the index is made up from the topic's beginning
				is(deadletter.Redriving, 2)
				third := letterOf(r, noon.Add(2*ahead))
				read(third)
				is(deadletter.FailedAgain, 3)

				for _, topic := range [][]deadletter.Letter{{first, twice, second, secondTwice, third}, {third}} {
					_, err := f.db.ExecContext(t.Context(), `DELETE FROM dead_letters`)
					require.NoError(t, err)
					read(topic...)
					is(deadletter.FailedAgain, 3)
				}
			})
		})
	}
}

// Letters that do not say which failure they are go by their time.
func TestFailuresOfBefore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		for i, at := range []time.Time{noon, noon.Add(-time.Second), noon, noon.Add(time.Second)} {
			letter := deadletter.New(kafka.Record{Topic: "t"}, deadletter.Failure{Group: "g", Err: errors.New("no"), At: at})
			delete(letter.Headers, deadletter.HeaderFailures)
			f.record(t, deadletter.FromRecord(letter, "g"))
			l, err := f.Get(t.Context(), "t-0-0")
			require.NoError(t, err)
			require.Equal(t, 1+i/3, l.Failures)
		}
		_, err := f.Redrive(t.Context(), "t-0-0", by)
		require.NoError(t, err)
		f.record(t, letterOf(f.sent[0], noon))
		l, err := f.Get(t.Context(), "t-0-0")
		require.NoError(t, err)
		require.Equal(t, []any{deadletter.FailedAgain, 3}, []any{l.State, l.Failures})
	})
}

// A letter whose record was lost on its way can be redriven again after a minute, however often it was pressed in
// between; whoever pressed in vain is not who redrove it.
func TestStuckLetterIsRedrivenAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		l := letterOf(kafka.Record{Topic: "t"}, noon)
		f.record(t, l)
		for range 3 {
			got, err := f.Redrive(t.Context(), l.ID, deadletter.By{Actor: "at " + f.now.Format(time.TimeOnly)})
			require.NoError(t, err)
			require.Equal(t, "at 12:00:00", got.Actor)
			f.now = f.now.Add(25 * time.Second)
		}
		require.Len(t, f.sent, 1)
		got, err := f.Redrive(t.Context(), l.ID, deadletter.By{Actor: "another"})
		require.NoError(t, err)
		require.Equal(t, "another", got.Actor)
		require.Len(t, f.sent, 2)
	})
}

// A letter forgets a failure when it fails again; the verb that was pressed upon it does not.
func TestAuditKeepsTheFailure(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		r := kafka.Record{Topic: "t"}
		var id string
		fail := func(after time.Duration, why string) {
			l := deadletter.FromRecord(deadletter.New(r, deadletter.Failure{Group: "g", ErrorType: deadletter.Transient, Err: errors.New(why), Retries: int(after / time.Minute), At: noon.Add(after)}), "g")
			l.Failures = 1 + int(after/time.Minute) // as one that came by the redrive topic says
			f.record(t, l)
			id = l.ID
		}
		fail(0, "away")
		_, err := f.Redrive(t.Context(), id, by)
		require.NoError(t, err)
		fail(time.Minute, "still away")
		_, err = f.Edit(t.Context(), id, []byte("x"), by)
		require.NoError(t, err)
		j, err := f.Begin(t.Context(), redriveAll())
		require.NoError(t, err)
		run(t, f.Store)
		require.Eventually(t, func() bool {
			l, err := f.Get(t.Context(), id)
			return err == nil && l.State == deadletter.Redriving
		}, 30*time.Second, 10*time.Millisecond)
		fail(2*time.Minute, "away for good")
		_, err = f.Discard(t.Context(), id, by)
		require.NoError(t, err)

		trail, err := f.Audit(t.Context(), deadletter.AuditFilter{Letter: id, Limit: 10})
		require.NoError(t, err)
		var got []deadletter.Entry
		for _, e := range trail {
			got = append(got, deadletter.Entry{Verb: e.Verb, Job: e.Job, FailedAt: e.FailedAt, Error: e.Error, Retries: e.Retries})
		}
		require.Equal(t, []deadletter.Entry{
			{Verb: "discard", FailedAt: noon.Add(2 * time.Minute), Error: "transient: away for good", Retries: 2},
			{Verb: "redrive", Job: j.ID, FailedAt: noon.Add(time.Minute), Error: "transient: still away", Retries: 1},
			{Verb: "edit", FailedAt: noon.Add(time.Minute), Error: "transient: still away", Retries: 1},
			{Verb: "redrive", FailedAt: noon, Error: "transient: away"},
		}, got)
		begun, err := f.Audit(t.Context(), deadletter.AuditFilter{Job: j.ID, Limit: 10})
		require.NoError(t, err)
		require.True(t, begun[len(begun)-1].FailedAt.IsZero(), "a verb on a job has no failure")
	})
}

// What is left of a letter that was too large for its topic says where the record stands, and is not redriven.
func TestShortened(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f *fixture) {
		huge := strings.Repeat("x", 1<<20)
		r := kafka.Record{Topic: "t", Partition: 1, Offset: 2, Key: []byte(huge), Value: []byte(huge), Headers: map[string]string{"ce_id": "1", "a": huge}}
		short := deadletter.Shortened(deadletter.New(r, deadletter.Failure{Group: "g", Err: errors.New("no"), At: noon}))
		require.Empty(t, short.Key)
		require.Empty(t, short.Value)
		require.NotContains(t, short.Headers, "a")
		require.Equal(t, "1", short.Headers["ce_id"])
		require.Equal(t, "the value, 1048576 bytes; the key, 1048576 bytes; 1 headers", short.Headers[deadletter.HeaderOmitted])
		l := deadletter.FromRecord(short, "g")
		require.Equal(t, "t-1-2", l.ID)
		f.record(t, l)
		_, err := f.Redrive(t.Context(), l.ID, deadletter.By{})
		require.ErrorIs(t, err, deadletter.ErrState)
		_, err = f.Discard(t.Context(), l.ID, deadletter.By{})
		require.NoError(t, err)
	})
}

// Letters hold what customers sent, and redriving repeats it: neither is a customer's business.
func TestNotForCustomers(t *testing.T) {
	t.Parallel()
	for kind, want := range map[httpapi.CallerKind]int{httpapi.Operator: 200, httpapi.Service: 200, httpapi.Customer: 403} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, f *fixture) { getLetters(t, f, kind, want) })
		})
	}
}

func getLetters(t *testing.T, f *fixture, kind httpapi.CallerKind, want int) {
	t.Helper()
	r, err := httpapi.NewRouter(httpapi.Deps{
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Identify: func(*http.Request) (httpapi.Caller, error) { return httpapi.Caller{Kind: kind, ID: "c"}, nil },
	})
	require.NoError(t, err)
	require.NoError(t, deadletter.Mount(r, f.Store))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/admin/dead-letters", nil))
	require.Equal(t, want, w.Code, w.Body)
}
