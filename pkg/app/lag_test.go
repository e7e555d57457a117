package app_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// lagLines are the samples of the consumer groups, by name and labels.
func lagLines(t *testing.T, svc *testkit.Service) map[string]string {
	t.Helper()
	resp, err := http.Get(svc.URL + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	lines := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), " "); found && strings.HasPrefix(name, "kafka_consumergroup_") {
			lines[name] = value
		}
	}
	return lines
}

func TestLagMetrics(t *testing.T) {
	t.Parallel()
	var stuck, away atomic.Bool
	stuck.Store(true)
	a := &adder{handle: func(int, event.Event) error {
		if stuck.Load() {
			return fault.Unavailablef("the database is on holiday")
		}
		return nil
	}}
	s := testkit.Start(t, topics("adder"))
	s.Cluster().ControlKey(int16(kmsg.DescribeGroups), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.Cluster().KeepControl()
		if away.Load() {
			return nil, errors.New("gone"), true
		}
		return nil, nil, false
	})
	svc := testkit.Run(s, "adder", a.run, "LAG_INTERVAL=100ms")
	s.Send("/test", "k", numberGiven{N: 5})
	var lines map[string]string
	at := "0"
	testkit.Until(s, "a record waits", func() bool {
		lines = lagLines(t, svc)
		for _, at = range []string{"0", "1"} {
			if lines[`kafka_consumergroup_lag{consumergroup="adder",partition="`+at+`",topic="numbers"}`] == "1" {
				return true
			}
		}
		return false
	})
	age := `kafka_consumergroup_oldest_age_seconds{consumergroup="adder",partition="` + at + `",topic="numbers"}`
	require.NotContains(t, []string{"", "0"}, lines[age], "it has an age, and that grows")
	require.Equal(t, "1", lines[`kafka_consumergroup_members{consumergroup="adder"}`])
	require.Equal(t, "0", lines[`kafka_consumergroup_lag{consumergroup="adder.dlq.index",partition="0",topic="adder.dlq"}`])
	require.Equal(t, "0", lines[`kafka_consumergroup_lag{consumergroup="adder",partition="0",topic="adder.redrive"}`])

	away.Store(true)
	testkit.Until(s, "nothing is shown of a broker that is away", func() bool { return len(lagLines(t, svc)) == 0 })
	require.NotZero(t, svc.Metric("process_start_time_seconds"), "the other metrics are there")
	away.Store(false)
	stuck.Store(false)
	testkit.Until(s, "nothing waits any more", func() bool {
		lines = lagLines(t, svc)
		return lines[`kafka_consumergroup_lag{consumergroup="adder",partition="`+at+`",topic="numbers"}`] == "0"
	})
	require.Equal(t, "0", lines[age])
}
