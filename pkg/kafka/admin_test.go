package kafka_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

func admin(t *testing.T, cfg kafka.Config) *kafka.Admin {
	t.Helper()
	a, err := kafka.NewAdmin(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestReachableIsBounded(t *testing.T) {
	t.Parallel()
	a := admin(t, kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := a.Reachable(ctx)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, cfg := broker(t, 1)
	require.NoError(t, admin(t, cfg).Reachable(t.Context()))
}

// mute is a connection on which no answer is heard any more once lost says so.
type mute struct {
	net.Conn
	lost *atomic.Bool
}

func (d mute) Read(b []byte) (int, error) {
	if d.lost.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return d.Conn.Read(b)
}

func TestAnAnswerThatDoesNotComeIsNotTheLast(t *testing.T) {
	t.Parallel()
	_, cfg := embedded(t, 1, "orders")
	var lost atomic.Pointer[atomic.Bool]
	lost.Store(&atomic.Bool{})
	cfg.Dial = func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		return mute{conn, lost.Load()}, err
	}
	a := admin(t, cfg)
	groups := map[string][]string{"payment": {"orders"}}
	_, err := a.Lag(t.Context(), groups)
	require.NoError(t, err)

	before := lost.Swap(&atomic.Bool{}) // what is dialled from now on is heard
	before.Store(true)
	_, err = a.Lag(t.Context(), groups)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	lag, err := a.Lag(t.Context(), groups)
	require.NoError(t, err, "the next question is asked anew")
	require.Len(t, lag, 1)
}
