package app_test

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// copyOf is what a replay puts on a group's redrive topic for a record.
func copyOf(r kafka.Record, group, id, mode string) kafka.Record {
	h := map[string]string{}
	for name, value := range r.Headers {
		h[name] = value
	}
	h[deadletter.HeaderTopic], h[deadletter.HeaderPartition], h[deadletter.HeaderOffset] = r.Topic, "0", "7"
	h[deadletter.HeaderReplay], h[deadletter.HeaderReplayInbox] = id, mode
	return kafka.Record{Topic: deadletter.RedriveTopic(group), Key: r.Key, Value: r.Value, Headers: h}
}

func recordOf(e event.Event) kafka.Record {
	return kafka.Record{Topic: "numbers", Key: []byte(e.Key), Value: e.Data, Headers: e.Headers()}
}

// Replayed to the live group: what was handled is dropped, or handled once more a replay, as the copies say.
func TestReplayLive(t *testing.T) {
	t.Parallel()
	for name, withCall := range map[string]bool{"handler": false, "handler with a call": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &adder{}
			if withCall {
				a.call = func(event.Event) error { return nil }
			}
			s, svc := start(t, a)
			first := s.Send("/test", "k", numberGiven{N: 1})
			_, sum := testkit.Await[sumChanged](s, "k", 1)
			require.EqualValues(t, 1, sum.Total)

			missed, err := event.NewFactory("/test").New(t.Context(), "number.given", "k", numberGiven{N: 10})
			require.NoError(t, err)
			s.SendRaw(copyOf(recordOf(first), "adder", "r1", deadletter.ReplaySkip))
			s.SendRaw(copyOf(recordOf(missed), "adder", "r1", deadletter.ReplaySkip))
			_, sum = testkit.Await[sumChanged](s, "k", 2)
			require.EqualValues(t, 11, sum.Total, "the gap is filled, and the first was not added again")

			for _, id := range []string{"r2", "r2", "r3", "r3"} {
				s.SendRaw(copyOf(recordOf(first), "adder", id, deadletter.ReplayAgain))
			}
			_, sum = testkit.Await[sumChanged](s, "k", 4)
			require.EqualValues(t, 13, sum.Total, "once for r2, once for r3")
			testkit.Until(s, "the doubles are dropped", func() bool {
				return svc.Metric(`consumer_duplicates_total{group="adder"}`) == 3
			})
			require.Len(t, s.Messages("sums", "sum.changed", "k"), 4)

			s.SendRaw(copyOf(recordOf(first), "adder", "no\x00id", deadletter.ReplayAgain))
			require.Equal(t, deadletter.Undecodable, awaitLetters(svc, waiting).ErrorType)
		})
	}
}

// Beside the live group: a second instance handles only what it is sent, keeps its own books, and lets nothing out.
func TestReplayBeside(t *testing.T) {
	t.Parallel()
	a, beside := &adder{}, &adder{}
	s := testkit.Start(t, slices.Concat(topics("adder"), topics("adder.replay")[2:]))
	testkit.Run(s, "adder", a.run)
	replay := testkit.Run(s, "adder", beside.run, "REPLAY_GROUP=adder.replay", "DATABASE_URL=sqlite:"+s.Database("beside"), "LAG_INTERVAL=100ms")
	e := s.Send("/test", "k", numberGiven{N: 1})
	testkit.Await[sumChanged](s, "k", 1)
	s.SendRaw(copyOf(recordOf(e), "adder.replay", "r1", deadletter.ReplaySkip))
	testkit.Until(s, "the copy is handled", func() bool { return beside.attemptsAt(e.ID) == 1 })
	bad := recordOf(e)
	bad.Value = []byte("no JSON")
	s.SendRaw(copyOf(bad, "adder.replay", "r1", deadletter.ReplaySkip))
	l := awaitLetters(replay, waiting)
	require.Equal(t, "adder.replay", l.Group)
	require.Len(t, s.Records("adder.replay.dlq"), 1)
	require.Empty(t, s.Records("adder.dlq"))

	testkit.Until(s, "the outbox is empty again", func() bool { return replay.Metric("outbox_sent_total") == 1 })
	require.Len(t, s.Messages("sums", "sum.changed", "k"), 1, "only the live one spoke")
	require.Equal(t, 1, a.attemptsAt(e.ID))
	testkit.Until(s, "its lag is that of its own group", func() bool {
		return replay.Metric(`kafka_consumergroup_members{consumergroup="adder.replay"}`) == 1
	})
	require.NotContains(t, lagLines(t, replay), `kafka_consumergroup_lag{consumergroup="adder.replay",partition="0",topic="numbers"}`)

	// Its own letters can be redriven, to itself.
	resp, body := replay.Post("/admin/dead-letters/"+l.ID+"/redrive", map[string]string{"actor": "test", "reason": "test"})
	require.Equal(t, http.StatusAccepted, resp.StatusCode, body)
	testkit.Until(s, "it is tried again", func() bool { return len(s.Records("adder.replay.dlq")) == 2 })
}

func TestReplayGroupIsRefused(t *testing.T) {
	t.Parallel()
	a := &adder{}
	s, svc := start(t, a)
	s.Send("/test", "k", numberGiven{N: 1})
	testkit.Await[sumChanged](s, "k", 1)
	svc.Stop()
	databases := map[string]string{"adder.new": s.Database("new")}
	for group, says := range map[string]string{
		"adder.new":      "adder.new.dlq is missing, adder.new.redrive is missing; run `orderctl replay`",
		"other.replay":   `REPLAY_GROUP is "other.replay", must be adder.<name>`,
		"adder":          "must be adder.<name>",
		"adder.":         "must be adder.<name>",
		"adder.re play":  "must be adder.<name>",
		"adder.a/b":      "must be adder.<name>",
		"adder.the-live": "DATABASE_URL is the database of group adder; REPLAY_GROUP adder.the-live needs one of its own",
	} {
		var out bytes.Buffer
		code := service.Run(t.Context(), "adder", service.Process{
			Environ: []string{
				"HTTP_ADDR=127.0.0.1:0", "KAFKA_BROKERS=" + strings.Join(s.Brokers(), ","), "DATABASE_URL=sqlite:" + cmp.Or(databases[group], s.Database("adder")),
				"LOG_FORMAT=text", "REPLAY_GROUP=" + group,
			},
			Stdout: &out, Stderr: &out,
		}, a.run)
		require.NotZero(t, code)
		require.Contains(t, strings.ReplaceAll(out.String(), `\"`, `"`), says, group)
	}
}
