package databasetest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Statements puts a counter before the PostgreSQL server that rawURL names: what is opened by the URL that it returns
// counts, each statement that is executed once, BEGIN and COMMIT too.
func Statements(t testing.TB, rawURL string) (counted string, count func() int64) {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	server := u.Host
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	var n atomic.Int64
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			backend, err := new(net.Dialer).DialContext(t.Context(), "tcp", server)
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			go func() {
				_, _ = io.Copy(client, backend)
				_ = client.Close()
			}()
			go func() {
				_ = countExecutes(backend, client, &n)
				_ = backend.Close()
			}()
		}
	}()
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String(), n.Load
}

// ping is what the driver asks, as a Query, of a connection that was idle for a second.
const ping = "-- ping"

// countExecutes copies what a client says. Each message is a byte for its type, but for the first, its length in four
// bytes, and the rest.
func countExecutes(to io.Writer, from io.Reader, n *atomic.Int64) error {
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first {
			head = head[:4]
		}
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		if !first && (head[0] == 'E' || head[0] == 'Q' && !bytes.HasPrefix(body, []byte(ping))) { // Execute, Query
			n.Add(1)
		}
		if _, err := to.Write(slices.Concat(head, body)); err != nil {
			return err
		}
	}
}
