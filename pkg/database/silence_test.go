package database_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
)

// inFrontOf returns rawURL by way of a port, and what makes every connection through it swallow what is said from then on.
// Connections that come later are whole.
func inFrontOf(t *testing.T, rawURL string) (through string, swallow func()) {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	target := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	var before atomic.Int64 // connections up to this number are deaf
	var accepted atomic.Int64
	pump := func(to, from net.Conn, number int64) {
		defer func() { _, _ = to.Close(), from.Close() }()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if number > before.Load() {
				_, _ = to.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			number := accepted.Add(1)
			go pump(server, client, number)
			go pump(client, server, number)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String(), func() { before.Store(accepted.Load()) }
}

func TestServerThatFallsSilentIsAwayAndNotWaitedForForever(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, rawURL string) {
		if strings.HasPrefix(rawURL, "sqlite:") {
			return // it is a file
		}
		through, swallow := inFrontOf(t, rawURL)
		db, err := database.Open(t.Context(), through, database.Silence(500*time.Millisecond), database.MaxConns(4))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })

		// Without an end of its own, it would be this one's, and no word of the database.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
			if _, err := tx.ExecContext(ctx, `SELECT 1`); err != nil {
				return err
			}
			swallow()
			_, err := tx.ExecContext(ctx, `SELECT 2`)
			return err
		})
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)

		var n int
		for range 4 { // those of the pool, too, are given up
			if err = db.QueryRowContext(ctx, `SELECT 3`).Scan(&n); err == nil {
				break
			}
		}
		require.NoError(t, err)
		require.Equal(t, 3, n)

		_, err = db.ExecContext(ctx, `SELECT pg_sleep(2)`)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "a server that hangs: %v", err)
	})
}

// mute is a PostgreSQL that lets everybody in, answers a ping, and hangs at the first statement.
func mute(t *testing.T) (rawURL string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	serve := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		backend := pgproto3.NewBackend(conn, conn)
		if _, err := backend.ReceiveStartupMessage(); err != nil {
			return
		}
		backend.Send(&pgproto3.AuthenticationOk{})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		for backend.Flush() == nil {
			said, err := backend.Receive()
			if err != nil {
				return
			}
			if query, is := said.(*pgproto3.Query); is && query.String == "-- ping" {
				backend.Send(&pgproto3.EmptyQueryResponse{})
				backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "postgres://u@" + listener.Addr().String() + "/d?sslmode=disable"
}

func TestServerThatHangsIsAway(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), mute(t), database.Silence(200*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // its end would say nothing of the database
	defer cancel()
	_, err = db.ExecContext(ctx, `SELECT 1`)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}

func TestMigrationMayTakeLong(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, rawURL string) {
		if strings.HasPrefix(rawURL, "sqlite:") {
			return // it is not waited for
		}
		db, err := database.Open(t.Context(), rawURL, database.Silence(300*time.Millisecond))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, db.Migrate(t.Context(), "slow", fstest.MapFS{"0001_slow.sql": {Data: []byte("-- +goose Up\nSELECT pg_sleep(1);\n")}}))
	})
}

// A connection of the pool that was given up is no reason to complain when the database is closed.
func TestCloseAfterAConnectionWasGivenUp(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		db, err := database.Open(t.Context(), url)
		require.NoError(t, err)
		if db.Dialect() == database.Postgres {
			require.NoError(t, db.CutOne(t.Context()))
		}
		require.NoError(t, db.Close())
	})
}
