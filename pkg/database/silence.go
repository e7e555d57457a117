package database

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// idleUnasked is for how long a connection to PostgreSQL may have been idle and is still trusted.
const idleUnasked = time.Second

// silence bounds how long PostgreSQL may say nothing when it was asked something. A machine that is gone, a firewall that
// forgot a connection, or a server that hangs says nothing ever: the kernel gives up after a quarter of an hour, or never,
// and until then a statement, and whoever waits for it, would hang.
type silence struct {
	limit time.Duration
	// suspended counts who may be left without an answer for longer.
	suspended atomic.Int64
}

// suspend lifts the bound until resume is called.
func (s *silence) suspend() (resume func()) {
	s.suspended.Add(1)
	return func() { s.suspended.Add(-1) }
}

// over makes connections that dial opens end when the server is silent.
func (s *silence) over(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l := &listening{Conn: conn, silence: s}
		l.timer = time.AfterFunc(s.limit, l.lapse)
		l.timer.Stop()
		return l, nil
	}
}

// listening is a connection that reads when it waits for an answer, as pgx's do. Where a write took long, pgx read beside it,
// and that read may go on while nothing is asked: then the connection is closed after the same time, and is replaced when it
// is wanted.
type listening struct {
	net.Conn
	silence *silence
	timer   *time.Timer
	reading atomic.Bool
}

// Read implements net.Conn.
func (l *listening) Read(p []byte) (int, error) {
	l.reading.Store(true)
	l.timer.Reset(l.silence.limit)
	defer func() {
		l.reading.Store(false)
		l.timer.Stop()
	}()
	return l.Conn.Read(p)
}

// Write implements net.Conn. What is asked now has its own time, also from a read that began before.
func (l *listening) Write(p []byte) (int, error) {
	if l.reading.Load() {
		l.timer.Reset(l.silence.limit)
	}
	return l.Conn.Write(p)
}

func (l *listening) lapse() {
	if l.silence.suspended.Load() > 0 {
		l.timer.Reset(l.silence.limit)
		return
	}
	_ = l.Close() // the Read that waits says so
}

// shouldPing asks a connection that was idle itself, with an end: pgx's own ping would wait as long as the statement may,
// for each connection of the pool in turn. When it is asked again by pgx, it is closed.
func shouldPing(ctx context.Context, p stdlib.ShouldPingParams) bool {
	if p.IdleDuration <= idleUnasked {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return p.Conn.Ping(ctx) != nil
}
