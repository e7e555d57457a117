package inject

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// dialTimeout bounds how long a server may take to accept.
const dialTimeout = 5 * time.Second

// proxy is a port in front of a server.
type proxy struct {
	network         *Network
	service, server string
	target          string
	listener        net.Listener

	mu          sync.Mutex
	connections map[*connection]bool
}

// connection is a client's, with the one to the server behind it.
type connection struct {
	proxy  *proxy
	client net.Conn
	// ended is closed by reset, deaf by swallow.
	ended, deaf       chan struct{}
	endOnce, deafOnce sync.Once

	mu      sync.Mutex
	service string
	server  net.Conn
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		c := &connection{proxy: p, client: client, service: p.service, ended: make(chan struct{}), deaf: make(chan struct{})}
		p.add(c)
		p.network.running.Go(func() {
			defer p.drop(c)
			c.run()
		})
	}
}

func (p *proxy) add(c *connection) {
	p.mu.Lock()
	if p.connections == nil {
		p.connections = map[*connection]bool{}
	}
	p.connections[c] = true
	p.mu.Unlock()
	// Close may have gone through the connections just before.
	p.network.mu.Lock()
	closed := p.network.closed
	p.network.mu.Unlock()
	if closed {
		c.reset()
	}
}

func (p *proxy) drop(c *connection) {
	c.close(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

func (p *proxy) each(fn func(*connection)) {
	p.mu.Lock()
	all := make([]*connection, 0, len(p.connections))
	for c := range p.connections {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		fn(c)
	}
}

// who is the service that the connection is of, empty as long as that is not known.
func (c *connection) who() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.service
}

// reset ends the connection on both sides, with a reset instead of an end.
func (c *connection) reset() { c.close(true) }

func (c *connection) close(reset bool) {
	c.endOnce.Do(func() { close(c.ended) })
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	for _, side := range []net.Conn{c.client, server} {
		if tcp, is := side.(*net.TCPConn); is {
			if reset {
				_ = tcp.SetLinger(0) // it may be closed already, here and below
			}
			_ = tcp.Close()
		}
	}
}

// swallow makes the connection half open for good.
func (c *connection) swallow() { c.deafOnce.Do(func() { close(c.deaf) }) }

func (c *connection) run() {
	var first []byte
	if strings.HasPrefix(c.proxy.server, "kafka") {
		head, client := readClientID(c.client)
		c.mu.Lock()
		c.service, first = client, head
		c.mu.Unlock()
	}
	switch worst, _ := c.state(); worst.kind {
	case refused:
		c.reset()
		return
	case swallowed:
		c.swallow()
	}
	var dialer net.Dialer
	dialer.Timeout = dialTimeout
	server, err := dialer.DialContext(context.Background(), "tcp", c.proxy.target)
	if err != nil {
		c.reset()
		return
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	select {
	case <-c.ended: // before there was a server to reset
		_ = server.Close()
		return
	default:
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { c.pump(server, c.client, first) })
	pumps.Go(func() { c.pump(c.client, server, nil) })
	pumps.Wait()
}

func (c *connection) state() (worst fault, changed <-chan struct{}) {
	return c.proxy.network.state(c.who(), c.proxy.server)
}

// pump carries bytes from one side to the other, after the first ones, for as long as both are there. An end of one
// direction is passed on; anything else ends the connection.
func (c *connection) pump(to, from net.Conn, first []byte) {
	if len(first) > 0 && !c.carry(to, first) {
		c.reset()
		return
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !c.carry(to, buffer[:n]) {
			c.reset()
			return
		}
		if errors.Is(err, io.EOF) && !c.isDeaf() {
			if tcp, is := to.(*net.TCPConn); is && tcp.CloseWrite() == nil {
				return
			}
		}
		switch {
		case err == nil:
		case c.isDeaf():
			_ = from.Close() // and the other side does not hear of it
			return
		default:
			c.reset()
			return
		}
	}
}

func (c *connection) isDeaf() bool {
	select {
	case <-c.deaf:
		return true
	default:
		return false
	}
}

// carry hands bytes over, when and if the network lets them through. It returns false when the connection is over.
func (c *connection) carry(to net.Conn, bytes []byte) bool {
	late := false
	for {
		worst, changed := c.state()
		var wait <-chan time.Time
		switch {
		case c.isDeaf():
			return true
		case worst.kind == slow && !late:
			wait, changed = time.After(worst.speed.delay(len(bytes))), nil
		case worst.kind != stalled:
			_, err := to.Write(bytes)
			return err == nil || c.isDeaf()
		}
		select {
		case <-wait:
			late = true
		case <-changed:
		case <-c.deaf:
		case <-c.ended:
			return false
		}
	}
}

// maxClientID bounds a client id.
const maxClientID = 1 << 10

// readClientID reads a Kafka client's first request up to its client id: size, key, version, correlation id, and a string
// with its length, -1 for none (Kafka's protocol guide, request header v1; v2 only adds to it). It returns all that it read.
func readClientID(from io.Reader) (head []byte, id string) {
	const lengthAt, idAt = 4 + 2 + 2 + 4, 4 + 2 + 2 + 4 + 2
	head = make([]byte, idAt+maxClientID)
	n, err := io.ReadFull(from, head[:idAt])
	if err != nil {
		return head[:n], ""
	}
	length := int(int16(binary.BigEndian.Uint16(head[lengthAt:])))
	if length <= 0 || length > maxClientID {
		return head[:idAt], ""
	}
	n, _ = io.ReadFull(from, head[idAt:idAt+length]) // what is missing shows when the connection is read on
	return head[:idAt+n], string(head[idAt : idAt+n])
}
