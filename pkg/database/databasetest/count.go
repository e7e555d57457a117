package databasetest

import (
	"bufio"
	"bytes"
	"context"
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
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
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
			all.Go(func() { carry(t.Context(), client, server, &n) })
		}
	})
	u.Host = listener.Addr().String()
	return u.String(), func() int { return int(n.Load()) }, true
}

// carry takes one connection's messages to the server, and the answers back, until either side is done.
func carry(ctx context.Context, client net.Conn, address string, statements *atomic.Int64) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
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
		typ := 0
		if begun {
			typ = 1
		}
		head, err := from.Peek(typ + 4)
		if err != nil {
			return
		}
		message := make([]byte, typ+int(binary.BigEndian.Uint32(head[typ:])))
		if _, err := io.ReadFull(from, message); err != nil {
			return
		}
		// A query, or the execution of a prepared one; but for what the driver asks of a connection that was idle.
		if begun && (message[0] == 'E' || message[0] == 'Q' && !bytes.HasPrefix(message[5:], []byte("-- ping"))) {
			statements.Add(1)
		}
		if !begun {
			begun = binary.BigEndian.Uint16(message[4:]) == 3 // the protocol's version; other numbers ask for encryption
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}
