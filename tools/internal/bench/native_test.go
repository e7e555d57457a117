//go:build native

// These tests need Apache Kafka and PostgreSQL: `make test STACK=native` runs them.

package bench

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/rivals/orchestrator"
)

// realServers are those that orderctl run has, with names of this test's own.
func realServers(t *testing.T) servers {
	t.Helper()
	s := servers{
		brokers: strings.Split(os.Getenv("TEST_KAFKA_BROKERS"), ","), postgres: os.Getenv("TEST_POSTGRES_URL"),
		bin: filepath.Dir(os.Getenv("ORDERCTL")), logs: t.TempDir(), prefix: "bench-" + uuid.NewString()[:8] + "-",
	}
	require.NotEmpty(t, s.postgres, "TEST_POSTGRES_URL")
	require.NotEqual(t, ".", s.bin, "ORDERCTL")
	return s
}

// dropAfter removes what newDatabase made, when the test is over.
func (s servers) dropAfter(t *testing.T, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		for i, name := range names {
			names[i] = s.named(name)
		}
		require.NoError(t, dropDatabases(context.WithoutCancel(t.Context()), s.postgres, names))
	})
}

func TestTheOrchestratorKeepsItsBooks(t *testing.T) {
	t.Parallel()
	s := realServers(t)
	s.dropAfter(t, orchestrator.Services()...)
	report := Report{OK: true}
	cfg := Config{
		Warmup: 200 * time.Millisecond, Window: time.Second, Seed: 1, Progress: t.Logf,
		RivalLoads: []Load{{InFlight: 8}, {Rate: 20}},
	}
	require.NoError(t, measureOrchestrator(t.Context(), cfg, s, &report))
	require.True(t, report.OK, "%v", report.Runs)
	require.Len(t, report.Runs, 2)
	for _, r := range report.Runs {
		require.Equal(t, RivalOrchestrator, r.Of)
		require.Positive(t, r.Figures.PerSecond)
		require.Positive(t, r.Figures.EndToEnd.P50)
		require.Contains(t, strings.Join(r.Figures.Books, "\n"), "money charged")
		require.Len(t, r.Figures.Components, 5, "four processes and the driver")
	}
	require.Equal(t, 24, report.Runs[1].Figures.Orders, "20 a second for 1.2 s")
	require.Positive(t, report.Runs[0].Figures.Cancelled, "one in ten is declined")

	urls := map[string]string{}
	for _, service := range orchestrator.Services() {
		u, err := url.Parse(s.postgres)
		require.NoError(t, err)
		u.Path = "/" + s.named(service)
		urls[service] = u.String()
	}
	_, wrong, err := orchestrator.Audit(t.Context(), urls, 0, 0)
	require.NoError(t, err)
	require.NotEmpty(t, wrong, "books that nobody's orders fit")
}

func TestSubscribersHandleWhatWaits(t *testing.T) {
	t.Parallel()
	s := realServers(t)
	cells := []Consumption{
		{Subscriber: nameWatermillKafka, Partitions: 1, Keys: manyKeys, HandlerMillis: 10},
		{Subscriber: nameOurs, Partitions: 1, Keys: manyKeys, HandlerMillis: 10},
		{Subscriber: nameOurs, Partitions: 6, Keys: 1, HandlerMillis: 0},
	}
	got, err := measureSubscribers(t.Context(), s, cells, 200*time.Millisecond, t.Logf)
	require.NoError(t, err)
	require.Equal(t, 20, got[0].Messages)
	require.InDelta(t, 100, got[0].PerSecond, 60, "one message of a partition at a time, 10 ms each")
	require.Greater(t, got[1].PerSecond, 3*got[0].PerSecond, "keys side by side")
	for _, c := range got {
		require.Positive(t, c.PerSecond)
		require.Contains(t, c.CPUMicros, driver)
	}
}

func TestOutboxesAreDrainedInOrder(t *testing.T) {
	t.Parallel()
	s := realServers(t)
	s.dropAfter(t, "outbox-"+nameOurs, "outbox-"+nameWatermillSQL, "warm-"+nameOurs, "warm-"+nameWatermillSQL)
	got, err := measureOutboxes(t.Context(), s, 300, 500*time.Millisecond, t.Logf)
	require.NoError(t, err)
	require.Len(t, got, 2)
	for _, o := range got {
		require.Positive(t, o.PerSecond)
		require.Equal(t, 50, o.Trickle.Count)
		require.Positive(t, o.Trickle.Max)
		require.Contains(t, o.CPUMicros, driver)
	}
}
