package app_test

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// The service under test adds up numbers: number.given in, sum.changed out. It is all that a team with events of its
// own would write.

type numberGiven struct {
	N int64 `json:"n"`
}

func (numberGiven) EventType() string  { return "number.given" }
func (numberGiven) EventTopic() string { return "numbers" }

type sumChanged struct {
	Total int64 `json:"total"`
}

func (sumChanged) EventType() string  { return "sum.changed" }
func (sumChanged) EventTopic() string { return "sums" }

//go:embed testdata/migrations/*.sql
var files embed.FS

type config struct {
	service.Base
	app.Config
}

// adder is the service, with a place to interfere.
type adder struct {
	mu sync.Mutex
	// handle, if set, is called at the end of each attempt; its error fails the attempt.
	handle func(attempt int, e event.Event) error
	// call, if set, makes the handler one with a call to the outside.
	call func(e event.Event) error
	// options are those of the handler.
	options []consumer.Option
	// topics, if set, are those that it declares.
	topics   []kafka.Topic
	attempts map[string]int
}

func (a *adder) run(ctx context.Context, cfg config, rt *service.Runtime) error {
	migrations, err := fs.Sub(files, "testdata/migrations")
	if err != nil {
		return err
	}
	declared := a.topics
	if declared == nil {
		declared = topics(rt.Name)
	}
	parts, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{
		Source: "/adder", Topics: declared, Key: "number_id", Migrations: migrations, Validate: validate,
	})
	if err != nil {
		return err
	}
	if a.call != nil {
		consumer.OnCall(parts.Consumer, func(_ context.Context, e event.Event, body numberGiven) (consumer.HandlerFunc, error) {
			if err := a.call(e); err != nil {
				return nil, err
			}
			return func(ctx context.Context, tx *outbox.Tx, e event.Event) error { return a.add(ctx, tx, e, body) }, nil
		}, a.options...)
	} else {
		consumer.On(parts.Consumer, a.add, a.options...)
	}
	return parts.Start(ctx)
}

func (a *adder) add(ctx context.Context, tx *outbox.Tx, e event.Event, body numberGiven) error {
	var total int64
	err := tx.QueryRowContext(ctx, `INSERT INTO sums (id, total) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET total = sums.total + excluded.total RETURNING total`, e.Key, body.N).Scan(&total)
	if err != nil {
		return err
	}
	if _, err := tx.Publish(ctx, e.Key, sumChanged{Total: total}); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attempts == nil {
		a.attempts = map[string]int{}
	}
	a.attempts[e.ID]++
	if a.handle == nil {
		return nil
	}
	return a.handle(a.attempts[e.ID], e)
}

func (a *adder) attemptsAt(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attempts[id]
}

func validate(typ string, data []byte) error {
	var body struct{ N *int64 }
	if err := json.Unmarshal(data, &body); err != nil {
		return err
	}
	if typ == "number.given" && body.N == nil {
		return errors.New("/n is required")
	}
	return nil
}

// topics are those of an adder that is called name.
func topics(name string) []kafka.Topic {
	return []kafka.Topic{
		{Name: "numbers", Partitions: 2, Configs: map[string]string{"max.message.bytes": "1048576"}}, {Name: "sums", Partitions: 2},
		{Name: deadletter.Topic(name), Partitions: 2}, {Name: deadletter.RedriveTopic(name), Partitions: 2},
	}
}

func start(t *testing.T, a *adder) (*testkit.Stack, *testkit.Service) {
	t.Helper()
	s := testkit.Start(t, topics("adder"))
	return s, testkit.Run(s, "adder", a.run)
}

// rows counts what the service's database has of a message: its effect, its mark and its messages that wait.
func rows(t *testing.T, s *testkit.Stack, query string, args ...any) int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+s.Database("adder")+"?mode=ro&_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

type letter struct {
	ID, Group, Topic, Key, State, Error string
	ErrorType                           string `json:"error_type"`
	EventID                             string `json:"event_id"`
	Retries, Failures                   int
}

type letters struct{ Items []letter }

func awaitLetters(svc *testkit.Service, ok func(letter) bool) letter {
	return testkit.Eventually(svc, "/admin/dead-letters", func(l letters) bool {
		return len(l.Items) == 1 && ok(l.Items[0])
	}).Items[0]
}

func waiting(l letter) bool { return l.State == "waiting" }

// Invariant 1: effect, inbox mark and outbox rows commit in one transaction, or none does.
func TestEffectMarkAndMessagesAreOne(t *testing.T) {
	t.Parallel()
	var between []int
	s := (*testkit.Stack)(nil)
	a := &adder{handle: func(attempt int, e event.Event) error {
		if attempt == 2 {
			between = []int{
				rows(t, s, `SELECT COUNT(*) FROM sums`), rows(t, s, `SELECT COUNT(*) FROM inbox`), rows(t, s, `SELECT COUNT(*) FROM outbox`),
			}
		}
		if attempt < 3 {
			return errors.New("not yet")
		}
		return nil
	}}
	s, _ = start(t, a)
	e := s.Send("/test", "k", numberGiven{N: 5})
	changed, body := testkit.Await[sumChanged](s, "k", 1)
	require.EqualValues(t, 5, body.Total, "two failed attempts left nothing behind")
	require.Equal(t, []int{0, 0, 0}, between)
	require.Equal(t, e.ID, changed.CausationID)
	require.Equal(t, e.CorrelationID, changed.CorrelationID)
	require.Equal(t, 1, rows(t, s, `SELECT COUNT(*) FROM inbox WHERE consumer = 'adder' AND message_id = $1`, e.ID))

	// A commit of one without the others would show here.
	s.Send("/test", "k", numberGiven{N: 2})
	_, body = testkit.Await[sumChanged](s, "k", 2)
	require.EqualValues(t, 7, body.Total)
}

// Invariant 5: a message that comes again has no second effect, also after a restart.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	s, svc := start(t, &adder{})
	e := s.Send("/test", "k", numberGiven{N: 5})
	testkit.Await[sumChanged](s, "k", 1)
	s.Resend("numbers", e)
	svc.Stop()
	svc = testkit.Run(s, "adder", (&adder{}).run)
	s.Resend("numbers", e)
	s.Send("/test", "k", numberGiven{N: 1})
	_, body := testkit.Await[sumChanged](s, "k", 2)
	require.EqualValues(t, 6, body.Total)
	require.Positive(t, svc.Metric(`consumer_duplicates_total{group="adder"}`))
}

// Invariant 8, and the shape of a dead letter.
func TestPermanentTransientAndPanic(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail     error
		attempts int
		kind     string
	}{
		"permanent": {fault.Permanentf("never"), 1, "permanent"},
		"transient": {errors.New("not now"), 3, "transient"},
		"panic":     {nil, 3, "transient"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &adder{handle: func(_ int, e event.Event) error {
				switch {
				case e.Key != "bad":
					return nil
				case tc.fail == nil:
					panic("no idea")
				}
				return tc.fail
			}}
			s, svc := start(t, a)
			bad := s.Send("/test", "bad", numberGiven{N: 5})
			s.Send("/test", "good", numberGiven{N: 1})
			testkit.Await[sumChanged](s, "good", 1)

			l := awaitLetters(svc, waiting)
			require.Equal(t, tc.attempts, a.attemptsAt(bad.ID))
			require.Equal(t, tc.kind, l.ErrorType)
			require.Equal(t, tc.attempts-1, l.Retries)
			require.Equal(t, bad.ID, l.EventID)
			records := s.Records(deadletter.Topic("adder"))
			require.Len(t, records, 1)
			require.Equal(t, "bad", string(records[0].Key))
			require.Equal(t, `{"n":5}`, string(records[0].Value))
			for _, h := range []string{
				"original-topic", "original-partition", "original-offset", "original-timestamp", "consumer-group",
				"error-type", "error-message", "retry-count", "failed-at", "failure-count", "ce_id", "ce_type",
			} {
				require.NotEmpty(t, records[0].Headers[h], h)
			}
			require.Empty(t, s.Messages("sums", "sum.changed", "bad"))
		})
	}
}

// Invariant 8: while infrastructure is away nothing is dead-lettered, readiness says so, and work goes on by itself.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	away := true
	a := &adder{}
	a.handle = func(int, event.Event) error { // under a's lock
		if away {
			return fault.Unavailablef("the database is on holiday")
		}
		return nil
	}
	s, svc := start(t, a)
	e := s.Send("/test", "k", numberGiven{N: 5})
	testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
	testkit.Until(s, "more attempts than would be allowed", func() bool { return a.attemptsAt(e.ID) > 3 })
	require.Empty(t, s.Records(deadletter.Topic("adder")))
	a.mu.Lock()
	away = false
	a.mu.Unlock()
	testkit.Await[sumChanged](s, "k", 1)
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
	require.Empty(t, s.Records(deadletter.Topic("adder")))
}

// Invariant 7: what cannot be decoded is dead-lettered as it is, and its partition goes on.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	s, svc := start(t, &adder{})
	sane := map[string]string{
		"ce_id": "1", "ce_source": "/x", "ce_specversion": "1.0", "ce_type": "number.given", "ce_time": "2026-01-02T03:04:05Z", "ce_partitionkey": "k",
	}
	with := func(name, value string) map[string]string {
		h := map[string]string{}
		for k, v := range sane {
			h[k] = v
		}
		h[name] = value
		return h
	}
	bad := []kafka.Record{
		{Value: []byte("no headers at all")},
		{Key: []byte("k"), Value: []byte("\xff\x00"), Headers: sane},
		{Key: []byte("k"), Value: []byte(`{"m": 1}`), Headers: sane},
		{Key: []byte("k"), Value: []byte(`{"n": "one"}`), Headers: sane},
		{Key: []byte("k"), Value: []byte(`{"n": 1}`), Headers: with("ce_id", "")},
		{Key: []byte("k"), Value: []byte(`{"n": 1}`), Headers: with("ce_id", "a\x00b")},
		{Key: []byte("\xff"), Value: []byte(`{"n": 1}`), Headers: with("ce_partitionkey", "\xff")},
		{Key: []byte("k"), Value: []byte(`{"n": 1}`), Headers: with("ce_time", "noon")},
		{Key: []byte("other"), Value: []byte(`{"n": 1}`), Headers: sane},
		{Value: []byte(`{"n": 1}`), Headers: sane},
		{Key: []byte("k"), Headers: sane},
	}
	for _, r := range bad {
		r.Topic = "numbers"
		s.SendRaw(r)
	}
	s.SendRaw(kafka.Record{Topic: "numbers", Key: []byte("k"), Value: []byte(`{"n": 1}`), Headers: with("ce_type", "number.unheard")})
	for i := range 8 { // on every partition
		s.Send("/test", fmt.Sprint("good", i), numberGiven{N: 1})
		testkit.Await[sumChanged](s, fmt.Sprint("good", i), 1)
	}
	got := testkit.Eventually(svc, "/admin/dead-letters", func(l letters) bool { return len(l.Items) == len(bad)+1 })
	kinds := map[string]int{}
	for _, l := range got.Items {
		kinds[l.ErrorType]++
	}
	require.Equal(t, map[string]int{"undecodable": len(bad), "permanent": 1}, kinds)
	// Each is there with what it had, at the place that it says.
	dead := func() []kafka.Record { return s.Records(deadletter.Topic("adder")) }
	testkit.Until(s, "all of them in the dead-letter topic", func() bool { return len(dead()) == len(bad)+1 })
	raw := map[string]kafka.Record{}
	for _, r := range s.Records("numbers") {
		raw[fmt.Sprintf("%s-%d-%d", r.Topic, r.Partition, r.Offset)] = r
	}
	for _, d := range dead() {
		place := deadletter.ID(d.Headers)
		r, stands := raw[place]
		require.True(t, stands, place)
		delete(raw, place)
		require.Equal(t, []string{string(r.Key), string(r.Value)}, []string{string(d.Key), string(d.Value)}, place)
		require.Equal(t, r.Timestamp.UTC().Format(time.RFC3339Nano), d.Headers[deadletter.HeaderTimestamp], place)
		for name, value := range r.Headers {
			require.Equal(t, value, d.Headers[name], place)
		}
	}
	for place, r := range raw {
		require.Contains(t, string(r.Key), "good", place)
	}
}

// Invariant 7: a record that with its failure added is larger than the dead-letter topic takes does not stop its key.
func TestTooLargeForTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	s, svc := start(t, &adder{})
	s.SendRaw(kafka.Record{Topic: "numbers", Key: []byte("k"), Value: make([]byte, 1<<20-100)})
	s.Send("/test", "k", numberGiven{N: 1})
	testkit.Await[sumChanged](s, "k", 1)
	l := awaitLetters(svc, waiting)
	require.Equal(t, "undecodable", l.ErrorType)
	require.Contains(t, s.Records(deadletter.Topic("adder"))[0].Headers[deadletter.HeaderOmitted], "the value, 1048476 bytes")
}

// A redriven letter goes to the group that failed and to no other, once however often it is asked for.
func TestRedrive(t *testing.T) {
	t.Parallel()
	a := &adder{handle: func(attempt int, _ event.Event) error {
		if attempt <= 2 {
			return fault.Permanentf("attempt %d", attempt)
		}
		return nil
	}}
	s := testkit.Start(t, slices.Concat(topics("adder"), topics("other")[2:]))
	svc := testkit.Run(s, "adder", a.run)
	other := &adder{}
	testkit.Run(s, "other", other.run)
	e := s.Send("/test", "k", numberGiven{N: 5})
	l := awaitLetters(svc, waiting)
	_, first := testkit.Await[sumChanged](s, "k", 1) // the other group's
	require.EqualValues(t, 5, first.Total)

	by := map[string]string{"actor": "tester", "reason": "try again"}
	resp, body := svc.Post("/admin/dead-letters/"+l.ID+"/redrive", by)
	require.Equal(t, http.StatusAccepted, resp.StatusCode, body)
	again := awaitLetters(svc, func(l letter) bool { return l.State == "failed_again" && l.Failures == 2 })
	require.Equal(t, l.ID, again.ID, "the same letter")
	require.Equal(t, "attempt 2", again.Error)

	for range 3 { // pressed more than once
		resp, body = svc.Post("/admin/dead-letters/"+l.ID+"/redrive", by)
		require.Equal(t, http.StatusAccepted, resp.StatusCode, body)
	}
	awaitLetters(svc, func(l letter) bool { return l.State == "redriven" })
	_, second := testkit.Await[sumChanged](s, "k", 2)
	require.EqualValues(t, 5, second.Total)
	require.Equal(t, 3, a.attemptsAt(e.ID))
	require.Equal(t, 1, other.attemptsAt(e.ID), "the other group did not see it again")
	for _, r := range s.Records(deadletter.RedriveTopic("adder")) {
		require.Equal(t, e.ID, r.Headers["ce_id"])
		require.Equal(t, `{"n":5}`, string(r.Value))
	}
	require.Len(t, s.Records(deadletter.RedriveTopic("adder")), 2)

	resp, _ = svc.Post("/admin/dead-letters/"+l.ID+"/discard", by)
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	resp, _ = svc.Post("/admin/dead-letters/nowhere-0-0/discard", by)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	resp, _ = svc.Post("/admin/dead-letters/"+l.ID+"/redrive", map[string]string{"actor": "tester", "reason": ""})
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	s, svc := start(t, &adder{handle: func(int, event.Event) error { return fault.Permanentf("never") }})
	s.Send("/test", "k", numberGiven{N: 5})
	l := awaitLetters(svc, waiting)
	for range 2 {
		resp, body := svc.Post("/admin/dead-letters/"+l.ID+"/discard", map[string]string{"actor": "tester", "reason": "of no use"})
		require.Equal(t, http.StatusOK, resp.StatusCode, body)
	}
	awaitLetters(svc, func(l letter) bool { return l.State == "discarded" })
	resp, _ := svc.Post("/admin/dead-letters/"+l.ID+"/redrive", map[string]string{"actor": "tester", "reason": "changed my mind"})
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Empty(t, s.Records(deadletter.RedriveTopic("adder")))
}

// A call to the outside is made before the transaction: again when that fails, and not for a message that is done.
func TestOnCall(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{}
	a := &adder{
		call: func(e event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			calls[e.ID]++
			return nil
		},
		handle: func(attempt int, _ event.Event) error {
			if attempt == 1 {
				return errors.New("the commit did not happen")
			}
			return nil
		},
	}
	s, svc := start(t, a)
	e := s.Send("/test", "k", numberGiven{N: 5})
	testkit.Await[sumChanged](s, "k", 1)
	s.Resend("numbers", e)
	testkit.Until(s, "the duplicate is seen", func() bool { return svc.Metric(`consumer_duplicates_total{group="adder"}`) == 1 })
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{e.ID: 2}, calls)
	require.Len(t, s.Messages("sums", "sum.changed", "k"), 1)
}
