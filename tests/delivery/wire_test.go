package delivery_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Kinds of requests in Kafka's protocol.
const (
	produce      int16 = 0
	offsetCommit int16 = 8
	joinGroup    int16 = 11
	addOffsets   int16 = 25
	endTxn       int16 = 26
)

// verdict is what becomes of a request.
type verdict int

const (
	pass verdict = iota
	// cut closes the connection instead of sending the request.
	cut
	// lose sends it, throws the answer away and closes the connection: the broker did it, and nobody knows.
	lose
	// die kills this process instead of sending it, dieAfter when the answer has come.
	die
	dieAfter
	// suspend stops this process before sending the request, until it is told to continue, and notes both that and the
	// answer.
	suspend
)

// What suspend notes.
const (
	suspended = "suspended"
	answered  = "answered"
)

// wire returns a dialer whose connections ask judge what becomes of each request.
func wire(judge func(kind int16) verdict, note func(string)) func(network, address string) (net.Conn, error) {
	return func(network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial(network, address)
		if err != nil {
			return nil, err
		}
		return &judged{Conn: conn, judge: judge, note: note, waiting: map[int32]verdict{}}, nil
	}
}

// once judges the first request of a kind, and lets the others pass.
func once(kind int16, v verdict) func(int16) verdict {
	var done atomic.Bool
	return func(k int16) verdict {
		if k == kind && done.CompareAndSwap(false, true) {
			return v
		}
		return pass
	}
}

// judged is a connection to a broker. Requests and answers are frames: a length, and in requests the kind, in both
// a number by which they belong together.
type judged struct {
	net.Conn
	judge func(kind int16) verdict
	note  func(string)

	mu      sync.Mutex
	waiting map[int32]verdict
	answer  bytes.Buffer
}

// Write gets one request a call from sarama.
func (c *judged) Write(frame []byte) (int, error) {
	if len(frame) < 12 {
		return 0, errors.New("not a request")
	}
	v := c.judge(int16(binary.BigEndian.Uint16(frame[4:])))
	switch v {
	case cut:
		return 0, errors.Join(errors.New("the connection is cut"), c.Close())
	case die:
		kill()
	case lose, dieAfter, suspend:
		if v == suspend {
			continued := make(chan os.Signal, 1)
			signal.Notify(continued, syscall.SIGCONT)
			c.note(suspended)
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
			<-continued // the process may stop a moment later
		}
		c.mu.Lock()
		c.waiting[int32(binary.BigEndian.Uint32(frame[8:]))] = v
		c.mu.Unlock()
	case pass:
	}
	return c.Conn.Write(frame)
}

func (c *judged) Read(b []byte) (int, error) {
	if c.answer.Len() == 0 {
		var head [8]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return 0, err
		}
		c.answer.Write(head[:])
		rest := int64(binary.BigEndian.Uint32(head[:])) - 4
		if _, err := io.CopyN(&c.answer, c.Conn, rest); err != nil {
			return 0, err
		}
		c.mu.Lock()
		v := c.waiting[int32(binary.BigEndian.Uint32(head[4:]))]
		c.mu.Unlock()
		switch v {
		case lose:
			return 0, errors.Join(io.EOF, c.Close())
		case dieAfter:
			kill()
		case suspend:
			c.note(answered)
		case pass, cut, die:
		}
	}
	return c.answer.Read(b)
}

// kill is kill -9.
func kill() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // not one instruction more
}
