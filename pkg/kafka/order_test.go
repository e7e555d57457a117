package kafka_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A caller that sends what failed before what comes behind it, as the outbox's relay does, has each key's first copies in
// order and nothing missing, while answers are lost, leaders move, the cluster refuses and forgets, and the caller's time
// runs out.
func TestFirstCopiesAreInOrderUnderRandomFaults(t *testing.T) {
	t.Parallel()
	const keys, each, seed = 7, 150, 1
	random := rand.New(rand.NewPCG(seed, seed))
	cluster, cfg := threeBrokers(t)
	dialed := cfg
	var mu sync.Mutex
	losses := rand.New(rand.NewPCG(seed, seed+1))
	dialed.Dial = func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		return &deafAtRandom{conn, &mu, losses}, err
	}
	p := publisher(t, dialed)
	refusals := []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID,
		kerr.NotEnoughReplicasAfterAppend, kerr.TopicAuthorizationFailed, kerr.MessageTooLarge,
	}
	next := map[int]int{} // by key, the first that is not known to be sent
	failed := 0
	var faults []*kfake.FaultHandle
	for sent := 0; sent < keys*each; {
		if random.IntN(3) == 0 {
			faults = append(faults, cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: "topic", Partitions: []int32{random.Int32N(6)},
				Err: refusals[random.IntN(len(refusals))], Count: 1 + random.IntN(3),
			}))
			require.NoError(t, cluster.MoveTopicPartition("topic", random.Int32N(6), random.Int32N(3)))
		}
		var batch [][2]int
		for key := range keys {
			for n := next[key]; n < min(each, next[key]+1+random.IntN(8)); n++ {
				batch = append(batch, [2]int{key, n})
			}
		}
		events := ofKey("topic", "", 0, len(batch))
		for i, b := range batch {
			events[i] = addressed("topic", fmt.Sprint("key-", b[0]), 1000*b[0]+b[1])
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+random.IntN(1000))*time.Millisecond)
		errs := p.SendBatch(ctx, events)
		cancel()
		behind := map[int]bool{}
		for i, b := range batch {
			switch {
			case errs != nil && errs[i] != nil:
				behind[b[0]] = true
				failed++
			case behind[b[0]]:
				require.Fail(t, "sent behind one that was not", "key %d number %d: %v", b[0], b[1], errs)
			default:
				next[b[0]]++
				sent++
			}
		}
	}
	for _, f := range faults {
		f.Remove()
	}
	require.Positive(t, failed)
	first := map[int]int{}
	for _, value := range log(t, cfg, "topic", sarama.ReadUncommitted) {
		var v int
		_, err := fmt.Sscanf(value, `{"n":%d}`, &v)
		require.NoError(t, err)
		if key, n := v/1000, v%1000; n >= first[key] {
			require.Equal(t, first[key], n, "key %d", key)
			first[key]++
		}
	}
	require.Len(t, first, keys)
	for key, n := range first {
		require.Equal(t, each, n, "key %d", key)
	}
}

// deafAtRandom loses the answer to every tenth produce request or so.
type deafAtRandom struct {
	net.Conn
	mu     *sync.Mutex
	random *rand.Rand
}

func (d *deafAtRandom) Write(frame []byte) (int, error) {
	d.mu.Lock()
	lose := d.random.IntN(10) == 0
	d.mu.Unlock()
	if lose {
		var once sync.Once
		return (&deaf{Conn: d.Conn, once: &once}).Write(frame)
	}
	return d.Conn.Write(frame)
}
