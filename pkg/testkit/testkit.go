package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
)

// Patience is how long anything is waited for.
const Patience = 30 * time.Second

const tick = 10 * time.Millisecond

// Stack is a broker and a Redis of one test.
type Stack struct {
	*devstack.Stack
	t         testing.TB
	dir       string
	publisher *kafka.Publisher
	records   *records
}

// Start starts a stack with topics, and reads everything that is written to them. Those that a service needs are what
// it gives to app.Options.
func Start(t testing.TB, topics []kafka.Topic) *Stack {
	t.Helper()
	stack, err := devstack.Start(t.Context(), devstack.Config{Topics: topics})
	require.NoError(t, err)
	t.Cleanup(func() { _ = stack.Stop() })
	cfg := kafka.Config{Brokers: stack.Brokers(), ClientID: "testkit"}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: cfg}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = publisher.Close() })
	s := &Stack{Stack: stack, t: t, dir: t.TempDir(), publisher: publisher, records: newRecords(t, cfg, topics)}
	return s
}

// Service is a service under test.
type Service struct {
	// URL is where its API is.
	URL  string
	t    testing.TB
	stop context.CancelFunc
	done chan int
	log  *logs
}

// Run starts a service with settings ("NAME=value") on top of the addresses of the stack, and waits until it is ready.
// The same name again, after Stop, finds the database that the first left.
func Run[C service.Configured](s *Stack, name string, run func(context.Context, C, *service.Runtime) error, settings ...string) *Service {
	s.t.Helper()
	svc := Launch(s, name, run, settings...)
	wait(s.t, name+" is ready", func() (bool, string) {
		status, body := svc.get("/readyz")
		return status == http.StatusOK, body
	})
	return svc
}

// Launch is Run without waiting until the service is ready: only until it has an address.
func Launch[C service.Configured](s *Stack, name string, run func(context.Context, C, *service.Runtime) error, settings ...string) *Service {
	s.t.Helper()
	environ := append([]string{
		"HTTP_ADDR=127.0.0.1:0", "KAFKA_BROKERS=" + strings.Join(s.Brokers(), ","), "REDIS_URL=" + s.RedisURL(),
		"DATABASE_URL=sqlite:" + s.Database(name), "LOG_FORMAT=text", "SHUTDOWN_TIMEOUT=10s",
		"CONSUMER_BACKOFF_INITIAL=1ms", "CONSUMER_BACKOFF_MAX=20ms",
	}, settings...)
	log := &logs{}
	started := make(chan *service.Runtime, 1)
	ctx, stop := context.WithCancel(context.Background())
	svc := &Service{t: s.t, stop: stop, done: make(chan int, 1), log: log}
	go func() {
		svc.done <- service.Run(ctx, name, service.Process{
			Environ: environ, Stdout: log, Stderr: log, OnStart: func(rt *service.Runtime) { started <- rt },
		}, run)
	}()
	s.t.Cleanup(func() {
		svc.Stop()
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", name, log)
		}
	})
	select {
	case rt := <-started:
		svc.URL = "http://" + rt.Addr.String()
	case code := <-svc.done:
		svc.done <- code
		require.FailNow(s.t, "service did not start", "%s ended with code %d:\n%s", name, code, log)
	}
	return svc
}

// wait asks until it is so, and fails with the last answer when it does not become so.
func wait(t testing.TB, what string, is func() (bool, string)) {
	t.Helper()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for deadline := time.Now().Add(Patience); ; <-ticker.C {
		ok, last := is()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			require.FailNow(t, "waited in vain for: "+what, last)
		}
	}
}

// Database is the file that the service called name keeps its database in.
func (s *Stack) Database(name string) string { return filepath.Join(s.dir, name+".db") }

// Stop stops the service in order; it may be called more than once.
func (svc *Service) Stop() {
	svc.t.Helper()
	svc.stop()
	select {
	case code := <-svc.done:
		svc.done <- code
		require.Zero(svc.t, code, "exit code")
	case <-time.After(Patience):
		require.FailNow(svc.t, "service did not stop")
	}
}

// Exit waits until the service has ended by itself, and returns its exit code and its log.
func (svc *Service) Exit() (code int, log string) {
	svc.t.Helper()
	select {
	case code = <-svc.done:
		svc.done <- 0 // Stop has nothing to complain of
	case <-time.After(Patience):
		require.FailNow(svc.t, "service goes on", svc.log)
	}
	return code, svc.log.String()
}

func (svc *Service) get(path string) (int, string) {
	resp, err := http.Get(svc.URL + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// Get reads path as JSON into out and returns the status; out may be nil.
func (svc *Service) Get(path string, out any) int {
	svc.t.Helper()
	status, body := svc.get(path)
	require.NotZero(svc.t, status, body)
	if out != nil && status < 300 {
		require.NoError(svc.t, json.Unmarshal([]byte(body), out), body)
	}
	return status
}

// Post sends body as JSON (a string as it is) with headers ("Name: value") and returns the answer, its body read.
func (svc *Service) Post(path string, body any, headers ...string) (*http.Response, string) {
	svc.t.Helper()
	raw, isText := body.(string)
	if !isText {
		encoded, err := json.Marshal(body)
		require.NoError(svc.t, err)
		raw = string(encoded)
	}
	req, err := http.NewRequestWithContext(svc.t.Context(), http.MethodPost, svc.URL+path, strings.NewReader(raw))
	require.NoError(svc.t, err)
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(svc.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(svc.t, err)
	return resp, string(text)
}

// Eventually reads path as JSON into a T until ok accepts it, and returns it.
func Eventually[T any](svc *Service, path string, ok func(T) bool) T {
	svc.t.Helper()
	var got T
	wait(svc.t, "GET "+path, func() (bool, string) {
		status, body := svc.get(path)
		var fresh T
		if status != http.StatusOK || json.Unmarshal([]byte(body), &fresh) != nil || !ok(fresh) {
			return false, fmt.Sprintf("%d %s", status, body)
		}
		got = fresh
		return true, ""
	})
	return got
}

// EventuallyStatus waits until GET path answers status.
func EventuallyStatus(svc *Service, path string, status int) {
	svc.t.Helper()
	wait(svc.t, fmt.Sprintf("GET %s answers %d", path, status), func() (bool, string) {
		got, body := svc.get(path)
		return got == status, fmt.Sprint(got, " ", body)
	})
}

// Until waits until it is so.
func Until(s *Stack, what string, is func() bool) {
	s.t.Helper()
	wait(s.t, what, func() (bool, string) { return is(), "" })
}

// Metric returns the value of a sample as it stands in /metrics, name and labels to the letter; 0 when it is absent.
func (svc *Service) Metric(sample string) float64 {
	svc.t.Helper()
	_, body := svc.get("/metrics")
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, sample+" "); found {
			var n float64
			_, err := fmt.Sscan(value, &n)
			require.NoError(svc.t, err)
			return n
		}
	}
	return 0
}

// Send publishes a message as the service that speaks of source would, and returns the event.
func (s *Stack) Send(source, key string, body event.Body) event.Event {
	s.t.Helper()
	return s.SendCaused(source, event.Cause{}, key, body)
}

// SendCaused is Send for a message that another led to.
func (s *Stack) SendCaused(source string, cause event.Cause, key string, body event.Body) event.Event {
	s.t.Helper()
	e, err := event.NewFactory(source).New(event.WithCause(s.t.Context(), cause), body.EventType(), key, body)
	require.NoError(s.t, err)
	s.Resend(body.EventTopic(), e)
	return e
}

// Resend publishes an event as it is.
func (s *Stack) Resend(topic string, e event.Event) {
	s.t.Helper()
	for _, err := range s.publisher.SendBatch(s.t.Context(), []event.Addressed{{Topic: topic, Event: e}}) {
		require.NoError(s.t, err)
	}
}

// SendRaw publishes a record as it is.
func (s *Stack) SendRaw(r kafka.Record) {
	s.t.Helper()
	require.NoError(s.t, s.publisher.SendRecord(s.t.Context(), r))
}

// Await waits for the n-th message (from 1) of T's type with key, and returns it.
func Await[T event.Body](s *Stack, key string, n int) (event.Event, T) {
	s.t.Helper()
	var body T
	var found []event.Event
	wait(s.t, fmt.Sprintf("message %d of type %s for %s", n, body.EventType(), key), func() (bool, string) {
		found = s.Messages(body.EventTopic(), body.EventType(), key)
		return len(found) >= n, fmt.Sprintf("%d came", len(found))
	})
	require.NoError(s.t, json.Unmarshal(found[n-1].Data, &body))
	return found[n-1], body
}

// Messages returns what has been written to topic so far of a type and key.
func (s *Stack) Messages(topic, typ, key string) []event.Event {
	s.t.Helper()
	var found []event.Event
	for _, r := range s.records.of(topic) {
		e, err := event.FromHeaders(r.Headers, r.Value)
		if err == nil && e.Type == typ && e.Key == key {
			found = append(found, e)
		}
	}
	return found
}

// Records returns what has been written to topic so far.
func (s *Stack) Records(topic string) []kafka.Record { return s.records.of(topic) }

// records is everything that stands in the topics.
type records struct {
	mu      sync.Mutex
	byTopic map[string][]kafka.Record
}

func newRecords(t testing.TB, cfg kafka.Config, topics []kafka.Topic) *records {
	t.Helper()
	rs := &records{byTopic: map[string][]kafka.Record{}}
	consumer, err := sarama.NewConsumer(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	t.Cleanup(func() { _ = consumer.Close() })
	for _, topic := range topics {
		partitions, err := consumer.Partitions(topic.Name)
		require.NoError(t, err)
		for _, p := range partitions {
			pc, err := consumer.ConsumePartition(topic.Name, p, sarama.OffsetOldest)
			require.NoError(t, err)
			t.Cleanup(pc.AsyncClose)
			go func() {
				for m := range pc.Messages() {
					msg, err := kafka.Marshaler{}.Unmarshal(m)
					if r, ok := kafka.RecordOf(msg); ok && err == nil {
						rs.mu.Lock()
						rs.byTopic[topic.Name] = append(rs.byTopic[topic.Name], r)
						rs.mu.Unlock()
					}
				}
			}()
		}
	}
	return rs
}

func (rs *records) of(topic string) []kafka.Record {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]kafka.Record(nil), rs.byTopic[topic]...)
}

// logs is a log that can be read while it is written.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
