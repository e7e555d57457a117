package inject

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Link names connections between services and servers.
type Link struct {
	// Service is a service's name, "payment"; empty means all services.
	Service string
	// Server is "kafka", one of its brokers as in "kafka-2", "redis" or "postgres"; empty means all of them.
	Server string
}

// Network stands between the services and their servers: each speaks to a proxy, which speaks to the server. Nothing is
// broken until it is told so. Several faults may be on one connection; the worst counts.
//
// Kafka's clients connect to the addresses that the brokers advertise, so all of them come through the broker's one proxy,
// which tells services by the client id of their first request. Whoever is no service, a test's own client say, is let
// through whatever is broken.
type Network struct {
	services []string

	mu      sync.Mutex
	proxies []*proxy
	faults  []*fault
	// changed is closed, and made anew, with every change of the faults.
	changed chan struct{}
	closed  bool
	running sync.WaitGroup
}

// Speed slows a connection down.
type Speed struct {
	// Latency is added to every stretch of bytes, in each direction; up to Jitter more, at random.
	Latency, Jitter time.Duration
	// BytesPerSecond bounds each direction; 0 does not.
	BytesPerSecond int
}

// kind is what a fault does to a connection, the worst last.
type kind int

const (
	whole kind = iota
	slow
	stalled
	swallowed
	refused
)

type fault struct {
	link  Link
	kind  kind
	speed Speed
}

// NewNetwork returns a network of these services. Close it.
func NewNetwork(services ...string) *Network {
	return &Network{services: services, changed: make(chan struct{})}
}

// Between puts a proxy in front of a server's address and returns the proxy's; it is for stack.Options.Between. Service is
// empty for a broker, whose proxy is everybody's.
func (n *Network) Between(service, server, addr string) (string, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("a proxy in front of %s: %w", server, err)
	}
	p := &proxy{network: n, service: service, server: server, target: addr, listener: listener}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", errors.Join(fmt.Errorf("a proxy in front of %s: the network is closed", server), listener.Close())
	}
	n.proxies = append(n.proxies, p)
	n.running.Go(p.serve)
	return listener.Addr().String(), nil
}

// Cut resets the connections that there are. New ones are served.
func (n *Network) Cut(l Link) { n.each(l, func(c *connection) { c.reset() }) }

// Refuse resets the connections that there are, and new ones as soon as they are made, until mended.
func (n *Network) Refuse(l Link) (mend func()) {
	mend = n.begin(fault{link: l, kind: refused})
	n.Cut(l)
	return mend
}

// Slow slows connections down until mended, those that there are too.
func (n *Network) Slow(l Link, s Speed) (mend func()) {
	return n.begin(fault{link: l, kind: slow, speed: s})
}

// Stall holds back every byte in both directions until mended, and then lets all of them go on, as after a network that was
// parted: what a client has long given up arrives all the same.
func (n *Network) Stall(l Link) (mend func()) { return n.begin(fault{link: l, kind: stalled}) }

// HalfOpen makes connections swallow every byte in both directions, and never ends them: a peer that is gone without a
// word. New ones are accepted and are no better. Mended, new ones are whole; of those that were half open none comes back:
// a client gets rid of one only by giving up, of which the server does not hear in turn.
func (n *Network) HalfOpen(l Link) (mend func()) {
	mend = n.begin(fault{link: l, kind: swallowed})
	n.each(l, func(c *connection) { c.swallow() })
	return mend
}

// Connections is how many there are at the moment.
func (n *Network) Connections(l Link) int {
	count := 0
	n.each(l, func(*connection) { count++ })
	return count
}

// Close resets everything and returns when nothing of the network is left.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	proxies := n.proxies
	n.mu.Unlock()
	var errs []error
	for _, p := range proxies {
		errs = append(errs, p.listener.Close())
		p.each(func(c *connection) { c.reset() })
	}
	n.running.Wait()
	return errors.Join(errs...)
}

// begin adds a fault, and returns what takes it away again, which may be called more than once.
func (n *Network) begin(f fault) (mend func()) {
	added := &f
	n.change(func() { n.faults = append(n.faults, added) })
	return sync.OnceFunc(func() {
		n.change(func() { n.faults = slices.DeleteFunc(n.faults, func(other *fault) bool { return other == added }) })
	})
}

func (n *Network) change(fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fn()
	close(n.changed)
	n.changed = make(chan struct{})
}

// state is the worst that is on a service's connections to a server, and what ends with it.
func (n *Network) state(service, server string) (worst fault, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.faults {
		if f.kind > worst.kind && n.covers(f.link, service, server) {
			worst = *f
		}
	}
	return worst, n.changed
}

func (n *Network) covers(l Link, service, server string) bool {
	return slices.Contains(n.services, service) && (l.Service == "" || l.Service == service) &&
		(l.Server == "" || l.Server == server || strings.HasPrefix(server, l.Server+"-"))
}

func (n *Network) each(l Link, fn func(*connection)) {
	n.mu.Lock()
	proxies := n.proxies
	n.mu.Unlock()
	for _, p := range proxies {
		p.each(func(c *connection) {
			if n.covers(l, c.who(), p.server) {
				fn(c)
			}
		})
	}
}

// delay is how long a stretch of n bytes takes.
func (s Speed) delay(n int) time.Duration {
	d := s.Latency
	if s.Jitter > 0 {
		d += rand.N(s.Jitter)
	}
	if s.BytesPerSecond > 0 {
		d += time.Duration(n) * time.Second / time.Duration(s.BytesPerSecond)
	}
	return d
}
