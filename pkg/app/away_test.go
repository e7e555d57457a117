package app_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit"
)

// An attempt that takes long, because what is away answers nobody, does not look as if it were back.
func TestAwayWhileItIsTriedAgain(t *testing.T) {
	t.Parallel()
	asked, answers := make(chan struct{}, 8), make(chan error)
	s, svc := start(t, &adder{call: func(event.Event) error {
		asked <- struct{}{}
		return <-answers
	}})
	t.Cleanup(func() { close(answers) })
	s.Send("/test", "k", numberGiven{N: 5})
	<-asked
	answers <- fault.Unavailablef("the provider is on holiday")
	<-asked // readiness is asked for only from now on, as its answer is kept for a moment
	testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
	answers <- nil
	testkit.Await[sumChanged](s, "k", 1)
	testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
}

// line is the way to a server, which can be cut: then connections end, and new ones do.
type line struct {
	mu      sync.Mutex
	cut     bool
	refused int
	through map[net.Conn]bool
}

// layLine returns rawURL by way of a line.
func layLine(t *testing.T, rawURL string) (*line, string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l, server := &line{through: map[net.Conn]bool{}}, u.Host
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true)
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.carry(client, server) })
		}
	})
	u.Host = listener.Addr().String()
	return l, u.String()
}

func (l *line) carry(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	l.mu.Lock()
	if l.cut {
		l.refused++
		l.mu.Unlock()
		return
	}
	l.through[client], l.through[server] = true, true
	l.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.through, client)
	delete(l.through, server)
}

// set cuts the line, or mends it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for conn := range l.through {
			_ = conn.Close()
		}
	}
}

func (l *line) refusedSoFar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// The database goes away with messages at work and comes back: they waited, and the group stayed as it was.
func TestDatabaseThatGoesAway(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, rawURL string) {
		if strings.HasPrefix(rawURL, "sqlite:") {
			return // it is a file
		}
		l, through := layLine(t, rawURL)
		s := testkit.Start(t, topics("adder"))
		svc := testkit.Run(s, "adder", (&adder{}).run, "DATABASE_URL="+through)
		s.Send("/test", "k", numberGiven{N: 1})
		testkit.Await[sumChanged](s, "k", 1)
		before := members(t, s)
		require.Len(t, before, 1)

		l.set(true)
		const n = 8
		for i := range n { // on every partition
			s.Send("/test", fmt.Sprint("k", i), numberGiven{N: 1})
		}
		testkit.EventuallyStatus(svc, "/readyz", http.StatusServiceUnavailable)
		testkit.Until(s, "more attempts than would be allowed", func() bool { return l.refusedSoFar() > 3*n })
		require.Equal(t, http.StatusServiceUnavailable, svc.Get("/readyz", nil))
		require.Equal(t, http.StatusOK, svc.Get("/livez", nil))
		require.Equal(t, before, members(t, s))

		l.set(false)
		for i := range n {
			testkit.Await[sumChanged](s, fmt.Sprint("k", i), 1)
		}
		testkit.EventuallyStatus(svc, "/readyz", http.StatusOK)
		require.Equal(t, before, members(t, s))
		require.Empty(t, s.Records(deadletter.Topic("adder")))
	})
}

// members are the members of the service's group, with the partitions that each has.
func members(t *testing.T, s *testkit.Stack) map[string]string {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(s.Brokers(), kafka.Config{Brokers: s.Brokers(), ClientID: "test"}.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	groups, err := admin.DescribeConsumerGroups([]string{"adder"})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, "Stable", groups[0].State)
	assigned := map[string]string{}
	for id, member := range groups[0].Members {
		assigned[id] = string(member.MemberAssignment)
	}
	return assigned
}
