package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// keysOf are n keys of which all messages go to this one of numbers' two partitions.
func keysOf(t *testing.T, partition int32, n int) (keys []string) {
	t.Helper()
	place := sarama.NewMurmur2Partitioner("numbers")
	for i := 0; len(keys) < n; i++ {
		key := fmt.Sprint("key", i)
		p, err := place.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, 2)
		require.NoError(t, err)
		if p == partition {
			keys = append(keys, key)
		}
	}
	return keys
}

// Blocked keys that fill what may be parked of a partition have that partition wait, and no other. The replica is ready, says
// what it waits for, and goes on by itself when a letter is discarded or redriven.
func TestBlockedKeysFillTheParking(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		full, other := keysOf(t, 0, 4), keysOf(t, 1, 1)[0]
		one, two, late, good := full[0], full[1], full[2], full[3]
		a := newFailing(consumer.Blocks)
		for _, key := range []string{one, two, late} {
			a.fail(key, 1, fault.Permanentf("never"))
		}
		s := testkit.Start(t, topics("adder"))
		svc := testkit.Run(s, "adder", a.run, "DATABASE_URL="+url, "CONSUMER_PARKED_MAX=2", "CONSUMER_MAX_IN_FLIGHT=4")
		send := func(key string, n int64) { s.Send("/test", key, numberGiven{N: n}) }
		gauge := func(name string) float64 {
			return svc.Metric(`parked_partition_` + name + `{group="adder",partition="0",topic="numbers"}`)
		}
		blocked := func(n int) []letter {
			return testkit.Eventually(svc, "/admin/dead-letters", func(l letters) bool { return len(l.Items) == n }).Items
		}
		// those wait for room, and nothing is away
		waits := func(n float64) {
			t.Helper()
			testkit.Until(s, fmt.Sprint(n, " wait for room"), func() bool { return gauge("waiting") == n })
			require.GreaterOrEqual(t, gauge("full_ratio"), 1.0)
			require.Equal(t, http.StatusOK, svc.Get("/readyz", nil))
		}
		for _, key := range []string{one, two} {
			send(key, 1)
		}
		first := blocked(2)
		testkit.Until(s, "it is full", func() bool { return gauge("full_ratio") == 1 })
		send(late, 1) // it too is to be a dead letter, for which its key waits
		waits(1)
		for _, key := range []string{one, one, two} {
			send(key, 2)
		}
		waits(4)
		send(good, 1)
		for n := range 5 { // more than may be in flight
			send(other, 1)
			totals(s, other, n+1)
		}
		waits(4)
		require.Empty(t, s.Messages("sums", "sum.changed", good), "the partition stands still")
		require.Len(t, blocked(2), 2, "nothing more was given up")

		of := func(key string, all []letter) string {
			for _, l := range all {
				if l.Key == key {
					return l.ID
				}
			}
			require.Fail(t, "no letter", key)
			return ""
		}
		press(t, svc, of(one, first), "discard", http.StatusOK)
		require.Equal(t, []int64{2, 4}, totals(s, one, 2))
		require.Equal(t, []int64{1}, totals(s, good, 1))
		waits(1)
		a.fail(two, 1, nil)
		press(t, svc, of(two, first), "redrive", http.StatusAccepted)
		require.Equal(t, []int64{1, 3}, totals(s, two, 2))
		a.fail(late, 1, nil)
		press(t, svc, of(late, blocked(3)), "redrive", http.StatusAccepted)
		require.Equal(t, []int64{1}, totals(s, late, 1))
		testkit.Until(s, "nothing is parked", func() bool { return gauge("full_ratio") == 0 && gauge("waiting") == 0 })
		svc.Stop()
		_, log := svc.Exit()
		require.Equal(t, 1, strings.Count(log, "no more messages of the partition may be parked"), "said once, and not for each message")
		require.NotContains(t, log, "the message waits")
	})
}
