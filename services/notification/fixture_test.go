package notification_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/api/events"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification"
)

const (
	soon = 20 * time.Second
	tick = 20 * time.Millisecond
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// fixture is the service with a Kafka, a Redis and a database of its own.
type fixture struct {
	t     *testing.T
	redis *miniredis.Miniredis
	rdb   *redis.Client
	send  *kafka.Publisher
	make  event.Factory
	env   map[string]string
	url   string
	stop  func()
}

var redisDatabase atomic.Int64

// realRedis is a database of the server that TEST_REDIS_URL names, one a test, or empty: the same tests on the real one.
func realRedis() string {
	server := os.Getenv("TEST_REDIS_URL")
	if server == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", server, redisDatabase.Add(1)%16)
}

// embedded asks for the embedded Redis, for tests that take it away.
func embedded() map[string]string { return map[string]string{"REDIS_URL": "embedded"} }

func start(t *testing.T, env map[string]string) *fixture {
	t.Helper()
	stack, err := devstack.Start(t.Context(), devstack.Config{Topics: kafka.Topics(events.TopicsOf("notification"))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stack.Stop()) })
	server := miniredis.RunT(t)
	server.ClockTTL(true)
	redisURL := "redis://" + server.Addr()
	if given := realRedis(); given != "" && env["REDIS_URL"] == "" {
		redisURL = given
	}
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{Config: kafka.Config{Brokers: stack.Brokers()}}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, publisher.Close()) })
	options, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	rdb := redis.NewClient(options)
	require.NoError(t, rdb.FlushDB(t.Context()).Err())
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	f := &fixture{
		t: t, redis: server, rdb: rdb, send: publisher, make: event.NewFactory("/test"), env: map[string]string{
			"HTTP_ADDR": "127.0.0.1:0", "KAFKA_BROKERS": strings.Join(stack.Brokers(), ","), "REDIS_URL": redisURL,
			"DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "notification.db"), "LOG_FORMAT": "text", "LOG_LEVEL": "warn",
			"CONSUMER_BACKOFF_INITIAL": "5ms", "WEBHOOK_BACKOFF_INITIAL": "5ms", "WEBHOOK_BACKOFF_MAX": "20ms",
			"WEBHOOK_TAKEOVER": "1s", "STREAM_HEARTBEAT": "200ms", "SHUTDOWN_TIMEOUT": "15s",
		},
	}
	delete(env, "REDIS_URL")
	maps.Copy(f.env, env)
	f.run()
	return f
}

// run starts the service and returns when it is ready.
func (f *fixture) run() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, exited := make(chan string, 1), make(chan int, 1)
	var environ []string
	for name, value := range f.env {
		environ = append(environ, name+"="+value)
	}
	go func() {
		exited <- service.Run(ctx, "notification", service.Process{
			Environ: environ, Stdout: io.Discard, Stderr: testWriter{f.t},
			OnStart: func(rt *service.Runtime) { started <- rt.Addr.String() },
		}, notification.Run)
	}()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if code := <-exited; code != 0 {
			f.t.Errorf("the service exited with %d", code)
		}
	})
	f.t.Cleanup(f.stop)
	select {
	case addr := <-started:
		f.url = "http://" + addr
	case code := <-exited:
		exited <- code
		f.t.Fatalf("the service did not start: %d", code)
	}
	f.ready(true)
}

// newRedis starts another server in the place of the one that is closed, with the entries of these streams.
func (f *fixture) newRedis(keep map[string][]miniredis.StreamEntry) {
	f.t.Helper()
	server := miniredis.NewMiniRedis()
	require.NoError(f.t, server.StartAddr(f.rdb.Options().Addr))
	f.t.Cleanup(server.Close)
	server.ClockTTL(true)
	for stream, entries := range keep {
		for _, e := range entries {
			_, err := server.XAdd(stream, e.ID, e.Values)
			require.NoError(f.t, err)
		}
	}
	f.redis = server
}

func (f *fixture) ready(want bool) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		status, _ := f.get("/readyz")
		return (status == http.StatusOK) == want
	}, soon, tick, "readiness")
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (f *fixture) get(path string) (int, []byte) {
	f.t.Helper()
	return f.do(http.MethodGet, path, "")
}

func (f *fixture) do(method, path, body string) (int, []byte) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, f.url+path, strings.NewReader(body))
	require.NoError(f.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	return res.StatusCode, data
}

func getJSON[T any](f *fixture, path string) (v T) {
	f.t.Helper()
	status, data := f.get(path)
	require.Equal(f.t, http.StatusOK, status, "%s", data)
	require.NoError(f.t, json.Unmarshal(data, &v))
	return v
}

// list returns all of a customer's notifications, the oldest first.
func (f *fixture) list(customer string) []notificationapi.Notification {
	f.t.Helper()
	var all []notificationapi.Notification
	path := "/v1/customers/" + customer + "/notifications?limit=7"
	for cursor := ""; ; {
		page := getJSON[notificationapi.NotificationPage](f, path+cursor)
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			slices.Reverse(all)
			return all
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}

func (f *fixture) event(body event.Body, orderID string) event.Event {
	f.t.Helper()
	e, err := f.make.New(context.Background(), body.EventType(), orderID, body)
	require.NoError(f.t, err)
	return e
}

func (f *fixture) publish(body event.Body, orderID string) event.Event {
	f.t.Helper()
	e := f.event(body, orderID)
	f.again(body.EventTopic(), e)
	return e
}

func (f *fixture) again(topic string, e event.Event) {
	f.t.Helper()
	for _, err := range f.send.SendBatch(context.Background(), []event.Addressed{{Topic: topic, Event: e}}) {
		require.NoError(f.t, err)
	}
}

var total = events.Money{Amount: 2500, Currency: "EUR"}

func created(order, customer string) events.OrderCreated {
	return events.OrderCreated{
		OrderID: order, CustomerID: customer, Version: 1, Total: total, CreatedAt: time.Now().UTC(),
		Lines:           events.List[events.PricedLine]{{SKU: "MUG-BLUE", Quantity: 2, UnitPrice: events.Money{Amount: 1250, Currency: "EUR"}}},
		ShippingAddress: events.Address{Name: "Ada", Street: "Road 1", PostalCode: "12345", City: "Town", Country: "DE"},
	}
}

func cancelled(order, customer string) events.OrderCancelled {
	return events.OrderCancelled{
		OrderID: order, CustomerID: customer, Version: 3, Total: total, CancelledAt: time.Now().UTC(),
		Reason: events.NewReason(events.ReasonShippingRefused, "no"),
	}
}

// sse is one open event stream.
type sse struct {
	t      *testing.T
	cancel context.CancelFunc
	events chan sseEvent
}

type sseEvent struct{ id, name, data string }

// follow opens a stream behind last ("" for none).
func (f *fixture) follow(customer, last string) *sse {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &sse{t: f.t, cancel: cancel, events: make(chan sseEvent, 10000)}
	f.t.Cleanup(s.close)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v1/customers/"+customer+"/notifications/stream", nil)
	require.NoError(f.t, err)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := client.Do(req)
	require.NoError(f.t, err)
	require.Equal(f.t, http.StatusOK, res.StatusCode)
	require.Equal(f.t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(f.t, "no-store, no-transform", res.Header.Get("Cache-Control"))
	go func() {
		defer close(s.events)
		defer res.Body.Close()
		var e sseEvent
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case lines.Text() == "":
				if e.id != "" {
					s.events <- e // an id without data too: it moves the client's position
				}
				e = sseEvent{}
			case name == "id":
				e.id = value
			case name == "event":
				e.name = value
			case name == "data":
				e.data = value
			}
		}
	}()
	return s
}

func (s *sse) close() {
	s.cancel()
	for range s.events {
	}
}

// next is the next event that a client would see; bare ids are not.
func (s *sse) next() sseEvent {
	s.t.Helper()
	for {
		e := s.raw()
		if e.name != "" {
			return e
		}
	}
}

func (s *sse) raw() sseEvent {
	s.t.Helper()
	select {
	case e, open := <-s.events:
		require.True(s.t, open, "the stream ended")
		return e
	case <-time.After(soon):
		require.Fail(s.t, "nothing came")
		return sseEvent{}
	}
}

// sink is a webhook receiver that answers as it is told, by notification id.
type sink struct {
	url string
	mu  sync.Mutex
	// answer returns the status for the n-th post of an id, from 1; 0 leaves the post without an answer.
	answer func(id string, n int) int
	posts  map[string]int
	bodies map[string]string
	traces map[string]string
	hold   chan struct{}
}

func newSink(t *testing.T, answer func(id string, n int) int) *sink {
	s := &sink{answer: answer, posts: map[string]int{}, bodies: map[string]string{}, traces: map[string]string{}, hold: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("Idempotency-Key")
		s.mu.Lock()
		s.posts[id]++
		s.bodies[id], s.traces[id] = string(body), r.Header.Get("Traceparent")
		status := s.answer(id, s.posts[id])
		s.mu.Unlock()
		if status == 0 {
			select {
			case <-r.Context().Done():
			case <-s.hold:
			}
			return
		}
		w.WriteHeader(status)
	}))
	s.url = server.URL
	t.Cleanup(func() { close(s.hold); server.Close() })
	return s
}

func (s *sink) count(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts[id]
}

func (s *sink) set(answer func(id string, n int) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}
