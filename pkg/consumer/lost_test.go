package consumer_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// prepareCommit finds the Parse message that prepares the commit.
var prepareCommit = regexp.MustCompile(`(stmtcache_[0-9a-f]+)\x00commit\x00`)

// losing stands before PostgreSQL. When armed it lets the next commit through and cuts the connection before its answer.
type losing struct {
	net.Listener
	server string
	armed  atomic.Bool
	lost   atomic.Int64
	all    sync.WaitGroup
}

func newLosing(t *testing.T, server string) *losing {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &losing{Listener: listener, server: server}
	p.all.Go(func() {
		for {
			client, err := p.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = p.Close()
		p.all.Wait()
	})
	return p
}

func (p *losing) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || mute.Load() { // this was the answer
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer func() { <-answers }()
	defer server.Close()
	buf := make([]byte, 64<<10)
	var commit []byte // the commit's Bind, which names the statement that it was prepared as
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if prepared := prepareCommit.FindSubmatch(buf[:n]); prepared != nil {
			commit = slices.Concat([]byte{0}, prepared[1], []byte{0})
		}
		if commit != nil && bytes.Contains(buf[:n], commit) && p.armed.CompareAndSwap(true, false) {
			mute.Store(true)
			p.lost.Add(1)
			_, _ = server.Write(buf[:n])
			<-answers
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A batch commits and the connection is cut before it hears of it. On PostgreSQL alone: SQLite is in the process, and no
// answer of it is lost on the way.
func TestCommitOfABatchIsNotAnswered(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, rawURL string) {
		u, err := url.Parse(rawURL)
		require.NoError(t, err)
		if u.Scheme == "sqlite" {
			return
		}
		p := newLosing(t, u.Host)
		u.Host = p.Addr().String()
		b := newBench(t, u.String(), kafka.EffectivelyOnce)
		b.handle = func(_ context.Context, _ *outbox.Tx, key string, _ int) error {
			if key == "99" {
				p.armed.Store(true)
			}
			return nil
		}
		b.acked(b.batch(100))
		b.tookEffect(101)
		require.EqualValues(t, 1, p.lost.Load())
		require.Empty(t, b.deadLetters())
		require.EqualValues(t, 100, b.metric("consumer_duplicates_total").GetCounter().GetValue(), "all were found in the inbox")
		for key := range 100 {
			require.Equal(t, 1, b.callsOf(fmt.Sprint(key)))
		}
	})
}

// There is no timer on the way of a message: in a bubble, where only waiting takes time, none passes.
func TestNothingWaitsForMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "sqlite:"+t.TempDir()+"/test.db", kafka.EffectivelyOnce)
		start := time.Now()
		for i := range 5 {
			b.acked([]*message.Message{b.send(fmt.Sprint(i), fmt.Sprint("id", i))})
		}
		require.Zero(t, time.Since(start))
		b.tookEffect(5)
		transactions, _ := b.committed()
		require.Equal(t, 5, transactions)
	})
}

// One message's context ends in the middle of a batch: it is not acknowledged and leaves nothing, the others commit.
func TestContextEndsInABatch(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		b := newBench(t, url, kafka.EffectivelyOnce)
		msgs := []*message.Message{b.closeGate()}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		b.handle = func(ctx context.Context, tx *outbox.Tx, key string, _ int) error {
			if key != "5" {
				return nil
			}
			cancel()
			<-ctx.Done()
			_, err := tx.ExecContext(ctx, `DELETE FROM effects`)
			return err
		}
		for i := range 20 {
			under := context.WithoutCancel(t.Context())
			if i == 5 {
				under = ctx
			}
			msgs = append(msgs, b.sendUnder(under, fmt.Sprint(i), fmt.Sprint("id", i)))
		}
		b.openGate(20)
		b.acked(msgs, 6)
		<-msgs[6].Nacked()
		b.tookEffect(20)
		require.Empty(t, b.deadLetters())
	})
}
