package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// without are the adder's topics but for some.
func without(names ...string) []kafka.Topic {
	return slices.DeleteFunc(topics("adder"), func(t kafka.Topic) bool { return slices.Contains(names, t.Name) })
}

func TestRefusesToStartWithoutItsTopics(t *testing.T) {
	t.Parallel()
	letters, redrives := deadletter.Topic("adder"), deadletter.RedriveTopic("adder")
	for name, tc := range map[string]struct {
		there []kafka.Topic
		says  string
	}{
		"one that it reads":     {without("numbers"), "numbers is missing;"},
		"one that it publishes": {without("sums"), "sums is missing;"},
		"its own":               {without(letters, redrives), "adder.dlq is missing, adder.redrive is missing;"},
		"too few partitions":    {append(without("sums"), kafka.Topic{Name: "sums", Partitions: 1}), "sums has 1 partitions instead of 2;"},
		"too small records": {
			append(without("numbers"), kafka.Topic{Name: "numbers", Partitions: 3, Configs: map[string]string{"max.message.bytes": "1000"}}),
			"numbers takes records of up to 1000 bytes instead of 1048576;",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t, tc.there)
			e := s.Send("/test", "k", numberGivenElsewhere{numberGiven{N: 1}, tc.there[0].Name})
			a := &adder{}
			code, log := testkit.Launch(s, "adder", a.run).Exit()
			require.Equal(t, 1, code)
			last := log[strings.LastIndex(strings.TrimSpace(log), "\n")+1:]
			require.Contains(t, last, "topics are not as they are declared: "+tc.says+" run `orderctl topics apply`")
			require.Zero(t, a.attemptsAt(e.ID), "nothing is taken in")
		})
	}
}

// numberGivenElsewhere is one on a topic that is there.
type numberGivenElsewhere struct {
	numberGiven
	topic string
}

func (n numberGivenElsewhere) EventTopic() string { return n.topic }

func TestATopicMayComeAMomentLater(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, without("sums"))
	svc := testkit.Launch(s, "adder", (&adder{}).run)
	testkit.Until(s, "it waits for its topics", func() bool { return unreadyFor(svc, "topics") })
	admin, err := kafka.NewAdmin(kafka.Config{Brokers: s.Brokers()})
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	require.NoError(t, admin.EnsureTopics(t.Context(), topics("adder")))
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
}

// While the broker is away the service runs; when it is back the topics are looked at.
func TestTopicsAreLookedAtWhenTheBrokerIsBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		there []kafka.Topic
		code  int
	}{
		"with its topics": {topics("adder"), 0},
		"without one":     {without("sums"), 1},
		"told to stop":    {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t, nil)
			port := freePort(t)
			svc := testkit.Launch(s, "adder", (&adder{}).run, fmt.Sprintf("KAFKA_BROKERS=127.0.0.1:%d", port))
			testkit.Until(s, "it waits for its topics", func() bool { return unreadyFor(svc, "topics") })
			testkit.EventuallyStatus(svc, "/admin/dead-letters", http.StatusOK)
			if tc.there == nil {
				svc.Stop() // asks for exit code 0
				return
			}
			dev, err := devstack.Start(t.Context(), devstack.Config{KafkaPort: port, Topics: tc.there})
			require.NoError(t, err)
			t.Cleanup(func() {
				svc.Stop()
				require.NoError(t, dev.Stop())
			})
			if tc.code == 0 {
				testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
				return
			}
			code, log := svc.Exit()
			require.Equal(t, tc.code, code)
			require.Contains(t, log, "sums is missing; run `orderctl topics apply`")
		})
	}
}

// A contract that does not say what a service reads would let it start without.
func TestReadsOnlyWhatIsDeclared(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t, topics("adder"))
	code, log := testkit.Launch(s, "adder", func(ctx context.Context, cfg config, rt *service.Runtime) error {
		parts, err := app.New(ctx, rt, cfg.Base, cfg.Config, app.Options{Source: "/adder", Key: "k", Topics: without("numbers"), Validate: validate})
		if err != nil {
			return err
		}
		consumer.On(parts.Consumer, func(context.Context, *outbox.Tx, event.Event, numberGiven) error { return nil })
		return parts.Start(ctx)
	}).Exit()
	require.Equal(t, 1, code)
	require.Contains(t, log, "adder reads from the topic numbers, which is not among those that are declared for it")
}

// An inbox that forgets sooner than a topic would let a record that is read again take effect again.
func TestRefusesAnInboxThatForgetsTooSoon(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		topic   string
		configs map[string]string
		inbox   string
		says    string // nothing when it starts
	}{
		"as long as what it reads": {
			"numbers", map[string]string{"retention.ms": "7200000"}, "2h",
			"INBOX_RETENTION is 2h0m0s, must be longer than 2h0m0s, for which the topic numbers, which adder reads, keeps its records",
		},
		"shorter than its dead letters": {
			deadletter.Topic("adder"), map[string]string{"retention.ms": "10800000"}, "2h",
			"INBOX_RETENTION is 2h0m0s, must be longer than 3h0m0s, for which the topic adder.dlq, which adder reads, keeps its records",
		},
		"never deleted by age": {
			"numbers", map[string]string{"retention.ms": "-1"}, "8760h",
			"INBOX_RETENTION is 8760h0m0s, and none is long enough: adder reads the topic numbers, which keeps its records for ever; declare a retention for it",
		},
		"longer": {"numbers", map[string]string{"retention.ms": "7199999", "cleanup.policy": "delete"}, "2h", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.Start(t, topics("adder"))
			e := s.Send("/test", "k", numberGiven{N: 1})
			a := &adder{topics: append(without(tc.topic, "sums"),
				kafka.Topic{Name: tc.topic, Partitions: 2, Configs: tc.configs},
				kafka.Topic{Name: "sums", Partitions: 2, Configs: map[string]string{"retention.ms": "-1"}}, // is not read
			)}
			svc := testkit.Launch(s, "adder", a.run, "INBOX_RETENTION="+tc.inbox)
			if tc.says == "" {
				testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
				svc.Stop()
				return
			}
			code, log := svc.Exit()
			require.Equal(t, 1, code)
			require.Contains(t, strings.ReplaceAll(log, `\"`, `"`), tc.says)
			require.Zero(t, a.attemptsAt(e.ID), "nothing is taken in")
		})
	}
}

// unreadyFor tells whether the service says that it waits for something.
func unreadyFor(svc *testkit.Service, what string) bool {
	var report struct{ Checks map[string]struct{ OK bool } }
	resp, err := http.Get(svc.URL + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&report) != nil {
		return false
	}
	check, named := report.Checks[what]
	return named && !check.OK
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().(*net.TCPAddr).Port
}
