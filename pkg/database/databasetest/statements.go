package databasetest

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	var n atomic.Int64
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			backend, err := net.Dial("tcp", server)
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
		if !first && (head[0] == 'E' || head[0] == 'Q') { // Execute, and Query, which has one statement here
			n.Add(1)
		}
		if _, err := to.Write(head); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, int64(binary.BigEndian.Uint32(head[len(head)-4:]))-4); err != nil {
			return err
		}
	}
}
