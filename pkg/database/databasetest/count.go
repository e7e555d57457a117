package databasetest

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Counted returns a URL of the same PostgreSQL database on whose way the statements are counted, and how many there were
// so far: BEGIN and COMMIT too, not what is prepared. ok is false for SQLite, where there is no way to stand on.
func Counted(t testing.TB, rawURL string) (counted string, statements func() int, ok bool) {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	if u.Scheme == "sqlite" {
		return rawURL, nil, false
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	var n atomic.Int64
	server := u.Host
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { carry(client, server, &n) })
		}
	})
	u.Host = listener.Addr().String()
	return u.String(), func() int { return int(n.Load()) }, true
}

// carry takes one connection's messages to the server, and the answers back, until either side is done.
func carry(client net.Conn, address string, statements *atomic.Int64) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	defer func() {
		_ = server.Close()
		<-answered
	}()
	// https://www.postgresql.org/docs/current/protocol-message-formats.html: a type, a length that counts itself, and the
	// rest. What is sent before the session begins has no type.
	from := bufio.NewReader(client)
	for begun := false; ; {
		head := make([]byte, 5)
		if !begun {
			head = head[1:]
		}
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		rest := make([]byte, int(binary.BigEndian.Uint32(head[len(head)-4:]))-4)
		if _, err := io.ReadFull(from, rest); err != nil {
			return
		}
		if begun && (head[0] == 'Q' || head[0] == 'E') { // a query, or the execution of a prepared one
			statements.Add(1)
		}
		if !begun {
			begun = binary.BigEndian.Uint16(rest) == 3 // the protocol's version; other numbers ask for encryption
		}
		if _, err := server.Write(append(head, rest...)); err != nil {
			return
		}
	}
}
