package inject_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tests/faults/inject"
)

// soon is more than anything here takes, and short is how long nothing must come.
const (
	soon  = 20 * time.Second
	short = 100 * time.Millisecond
)

// echo is a server that says what it is told.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func network(t *testing.T) *inject.Network {
	t.Helper()
	n := inject.NewNetwork("order", "payment")
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// peer is a connection through a network.
type peer struct {
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, addr string) peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return peer{conn, bufio.NewReader(conn)}
}

func between(t *testing.T, n *inject.Network, service, server, target string) string {
	t.Helper()
	addr, err := n.Between(service, server, target)
	require.NoError(t, err)
	return addr
}

func (c peer) say(line string) error {
	_, err := io.WriteString(c, line+"\n")
	return err
}

// hear waits for a line.
func (c peer) hear(within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return "", err
	}
	return line[:len(line)-1], nil
}

func (c peer) requireEcho(t *testing.T, line string) {
	t.Helper()
	require.NoError(t, c.say(line))
	got, err := c.hear(soon)
	require.NoError(t, err)
	require.Equal(t, line, got)
}

func (c peer) requireReset(t *testing.T) {
	t.Helper()
	_, err := c.hear(soon)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// requireRefused dials what refuses, which a caller hears at once or when it reads.
func requireRefused(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		defer func() { _ = conn.Close() }()
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestWholeNetworkCarriesBothWaysAndEndsAsTheSidesDo(t *testing.T) {
	t.Parallel()
	n := network(t)
	c := dial(t, between(t, n, "payment", "redis", echo(t)))
	c.requireEcho(t, "hello")
	require.Equal(t, 1, n.Connections(inject.Link{Service: "payment"}))
	require.NoError(t, c.say("last"))
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	got, err := c.hear(soon)
	require.NoError(t, err)
	require.Equal(t, "last", got)
	_, err = c.hear(soon)
	require.ErrorIs(t, err, io.EOF)
	require.Eventually(t, func() bool { return n.Connections(inject.Link{}) == 0 }, soon, time.Millisecond)
}

func TestCutEndsWhatThereIsOnThatLinkAlone(t *testing.T) {
	t.Parallel()
	n, server := network(t), echo(t)
	addr := between(t, n, "payment", "redis", server)
	mine, other, third := dial(t, addr), dial(t, between(t, n, "order", "redis", server)), dial(t, between(t, n, "payment", "postgres", server))
	for _, c := range []peer{mine, other, third} {
		c.requireEcho(t, "before")
	}
	n.Cut(inject.Link{Service: "payment", Server: "redis"})
	mine.requireReset(t)
	other.requireEcho(t, "after")
	third.requireEcho(t, "after")
	dial(t, addr).requireEcho(t, "again")
}

func TestRefusedUntilMended(t *testing.T) {
	t.Parallel()
	n := network(t)
	addr := between(t, n, "payment", "redis", echo(t))
	there := dial(t, addr)
	there.requireEcho(t, "before")
	mend := n.Refuse(inject.Link{Server: "redis"})
	there.requireReset(t)
	requireRefused(t, addr)
	mend()
	mend()
	dial(t, addr).requireEcho(t, "after")
}

func TestSlowTakesItsTime(t *testing.T) {
	t.Parallel()
	n := network(t)
	c := dial(t, between(t, n, "payment", "redis", echo(t)))
	c.requireEcho(t, "before")
	mend := n.Slow(inject.Link{}, inject.Speed{Latency: 60 * time.Millisecond, BytesPerSecond: 100})
	began := time.Now()
	c.requireEcho(t, "0123456789") // 11 bytes there and back: 2 x (60 + 110) ms
	require.GreaterOrEqual(t, time.Since(began), 340*time.Millisecond)
	mend()
	c.requireEcho(t, "after")
}

func TestStalledBytesArriveWhenMended(t *testing.T) {
	t.Parallel()
	n := network(t)
	c := dial(t, between(t, n, "payment", "redis", echo(t)))
	c.requireEcho(t, "before")
	mend := n.Stall(inject.Link{Service: "payment"})
	require.NoError(t, c.say("late"))
	_, err := c.hear(short)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	mend()
	got, err := c.hear(soon)
	require.NoError(t, err)
	require.Equal(t, "late", got)
}

func TestHalfOpenSwallowsAndNeverComesBack(t *testing.T) {
	t.Parallel()
	n := network(t)
	addr := between(t, n, "payment", "redis", echo(t))
	there := dial(t, addr)
	there.requireEcho(t, "before")
	mend := n.HalfOpen(inject.Link{Service: "payment"})
	late := dial(t, addr)
	for _, c := range []peer{there, late} {
		require.NoError(t, c.say("lost"))
		_, err := c.hear(short)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	mend()
	for _, c := range []peer{there, late} {
		require.NoError(t, c.say("lost too"))
		_, err := c.hear(short)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	dial(t, addr).requireEcho(t, "after")
}

func TestKafkaTellsServicesByTheirClientID(t *testing.T) {
	t.Parallel()
	n := network(t)
	stack, err := devstack.Start(t.Context(), devstack.Config{
		Topics: []kafka.Topic{{Name: "a", Partitions: 1}}, Advertise: func(addr string) (string, error) { return n.Between("", "kafka-1", addr) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stack.Stop()) })

	send := func(id string) error {
		cfg := sarama.NewConfig()
		cfg.ClientID, cfg.Producer.Return.Successes = id, true
		cfg.Metadata.Retry.Max, cfg.Producer.Retry.Max = 0, 0
		cfg.Net.ReadTimeout = time.Second
		producer, err := sarama.NewSyncProducer(stack.Brokers(), cfg)
		if err != nil {
			return err
		}
		_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: "a", Value: sarama.StringEncoder("x")})
		return errors.Join(err, producer.Close())
	}
	require.NoError(t, send("payment"))
	mend := n.Refuse(inject.Link{Service: "payment", Server: "kafka"})
	require.Error(t, send("payment"))
	require.NoError(t, send("order"), "another service")
	require.NoError(t, send("a-test"), "no service")
	mend()
	require.NoError(t, send("payment"))
	mend = n.HalfOpen(inject.Link{Server: "kafka"})
	require.Error(t, send("order"))
	require.NoError(t, send("a-test"))
	mend()
	require.NoError(t, send("order"))
}
