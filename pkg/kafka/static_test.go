package kafka_test

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// A process that is killed and started again under its InstanceID has its partitions back at once, and what it had not
// finished comes again.
func TestStaticMemberIsBackAtOnce(t *testing.T) {
	t.Parallel()
	cluster, cfg := broker(t, 2, "topic")
	p := publisher(t, cfg)
	config := kafka.SubscriberConfig{
		Config: cfg, Topics: []string{"topic"}, InstanceID: "one", DrainTimeout: time.Millisecond, SessionTimeout: 30 * time.Second,
	}
	for n := range 2 {
		one := config
		var kill func()
		one.Dial, kill = mortal()
		s := subscriber(t, one)
		messages := subscribe(t, s, "topic")
		start := time.Now()
		send(t, p, addressed("topic", "k", n))
		require.Equal(t, "k-0", receive(t, messages).UUID)
		require.Less(t, time.Since(start), 10*time.Second)
		kill()
		require.NoError(t, s.Close())
		require.Len(t, assigned(t, cluster, "group"), 1)
	}
}

// mortal dials for a process that kill cuts off from the cluster for good: what it says then is not heard.
func mortal() (dial func(network, address string) (net.Conn, error), kill func()) {
	var mu sync.Mutex
	var open []net.Conn
	dead := false
	dial = func(network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if dead {
			return nil, errors.New("killed")
		}
		conn, err := net.DialTimeout(network, address, patience)
		if err == nil {
			open = append(open, conn)
		}
		return conn, err
	}
	return dial, func() {
		mu.Lock()
		defer mu.Unlock()
		dead = true
		for _, conn := range open {
			_ = conn.Close()
		}
	}
}

// A static member that stops leaves its group: another process, of another name, has its partitions at once.
func TestStaticMemberLeaves(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 2, "topic")
	p := publisher(t, cfg)
	// The cluster would wait that long for a member that is silent, or does not come to a rebalance: longer than receive.
	config := kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic"}, SessionTimeout: time.Minute, DrainTimeout: time.Minute}
	for n, name := range []string{"one", "another"} {
		config.InstanceID = name
		s := subscriber(t, config)
		messages := subscribe(t, s, "topic")
		send(t, p, addressed("topic", "k", n))
		m := receive(t, messages)
		require.Equal(t, fmt.Sprintf("k-%d", n), m.UUID)
		m.Ack()
		require.NoError(t, s.Close())
	}
}
