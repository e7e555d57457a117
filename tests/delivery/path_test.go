package delivery_test

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/internal/broker"
)

// The whole path: an effect and a message in one transaction, the relay, the topic, and a consumer with its inbox. Each
// fault kills the relay's process, or loses it an answer, and its successor goes on.
func TestPathRelay(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]struct {
		killed         bool
		copies, double int
	}{
		"before the commit":       {true, 1, 1}, // nothing had happened: the successor publishes
		"before sending":          {true, 1, 1},
		"after sending":           {true, 2, 2},
		"answer to the send lost": {false, 1, 1},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "relay", kafka.EffectivelyOnce)
			// In this order: a row that is not there may not be there yet.
			sent := func() bool { return p.effects(t)["published"] == 1 && p.unsent(t) == 0 }
			if want.killed {
				p.dies(t, fault)
				require.False(t, sent(), "it is not noted as sent")
				p.start(t, "")
			} else {
				p.start(t, fault)
			}
			eventually(t, "it is sent and its row deleted", sent)
			copies := 0
			for _, v := range broker.Values(t, cluster, p.Topic, sarama.ReadCommitted) {
				require.JSONEq(t, `{"value":"m"}`, v)
				copies++
			}
			require.Equal(t, want.copies, copies)

			// The same topic, read by a consumer with an inbox and by one without.
			for g, effects := range (outcome{kafka.EffectivelyOnce: 1, kafka.AtLeastOnce: want.double}) {
				c := newProcess(t, "consumer", g)
				c.Topic = p.Topic
				publish(t, c.Topic, "next")
				c.start(t, "")
				eventually(t, "the next message is handled", func() bool { return c.effects(t)["next"] > 0 })
				require.Equal(t, effects, c.effects(t)["m"], g)
			}
		})
	}
}
