package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// call is one batch that somebody sends, and what became of it. Once it is sent, the producer's mu guards it.
type call struct {
	entries []entry
	// left counts the entries that are not decided; done is closed when it is zero.
	left int
	done chan struct{}
	// spare is room for the bytes of headers, most of which are short.
	spare []byte
}

// entry is a record on its way.
type entry struct {
	call   *call
	topic  string
	target *target
	record sarama.Record
	// size is at least what the record takes in a request, in bytes.
	size int
	// sent says that the entry is in a batch, so the cluster may have it.
	sent    bool
	decided bool
	err     error
}

// Bytes beside keys, values and headers, at most: of a record, of a header, and of a batch.
const (
	recordOverhead = 5*binary.MaxVarintLen32 + binary.MaxVarintLen64 + 1
	headerOverhead = 2 * binary.MaxVarintLen32
	batchOverhead  = 61
)

func newCall(n int) *call {
	return &call{entries: make([]entry, n), left: n, done: make(chan struct{})}
}

// callOf sends events.
func callOf(batch []event.Addressed) *call {
	c := newCall(len(batch))
	for i, a := range batch {
		c.set(i, a.Topic, c.bytes(a.Event.Key), a.Event.Data, a.Event.AllHeaders())
	}
	return c
}

// set makes the i-th entry, as Record.message does.
func (c *call) set(i int, topic string, key, value []byte, headers iter.Seq2[string, string]) {
	e := &c.entries[i]
	e.call, e.topic = c, topic
	e.size = recordOverhead + len(key) + len(value)
	own := make([]sarama.RecordHeader, 0, 12)
	for name, v := range headers {
		if !strings.HasPrefix(name, reserved) {
			own = append(own, sarama.RecordHeader{Key: c.bytes(name), Value: c.bytes(v)})
			e.size += headerOverhead + len(name) + len(v)
		}
	}
	e.record = sarama.Record{Key: key, Value: value, Headers: make([]*sarama.RecordHeader, len(own))}
	for j := range own {
		e.record.Headers[j] = &own[j]
	}
}

// bytes is s, and never nil: Kafka refuses a header without a name.
func (c *call) bytes(s string) []byte {
	if c.spare == nil || cap(c.spare)-len(c.spare) < len(s) {
		c.spare = make([]byte, 0, max(1024, len(s)))
	}
	at := len(c.spare)
	c.spare = append(c.spare, s...)
	return c.spare[at:len(c.spare):len(c.spare)]
}

// decide says what became of e. Nothing changes that any more.
func (e *entry) decide(err error) {
	if e.decided {
		return
	}
	e.decided, e.err = true, err
	if e.call.left--; e.call.left == 0 {
		close(e.call.done)
	}
}

// fail decides that e was refused by itself, and those behind it in queue that have its key and its caller: they must
// not overtake it, once the caller has put it right.
func (e *entry) fail(err error, queue []*entry) {
	e.decide(err)
	if e.record.Key == nil {
		return
	}
	for _, behind := range queue {
		if behind.call == e.call && behind.topic == e.topic && behind.record.Key != nil && bytes.Equal(behind.record.Key, e.record.Key) {
			behind.decide(fault.Transientf("send to %s: not sent, because an earlier record of its key was not: %w", e.topic, err))
		}
	}
}

// behind are the entries after the i-th.
func (c *call) behind(i int) []*entry {
	var behind []*entry
	for j := i + 1; j < len(c.entries); j++ {
		behind = append(behind, &c.entries[j])
	}
	return behind
}

// results are the entries' errors, nil if there are none.
func (c *call) results() []error {
	var errs []error
	for i := range c.entries {
		if err := c.entries[i].err; err != nil {
			if errs == nil {
				errs = make([]error, len(c.entries))
			}
			errs[i] = err
		}
	}
	return errs
}

// abandon takes what is not sent yet out of the queues, and returns what is known of c now that ctx is over.
func (c *call) abandon(ctx context.Context) []error {
	touched := map[*target]bool{}
	for i := range c.entries {
		if e := &c.entries[i]; !e.decided && !e.sent {
			e.decide(fault.Unavailablef("send to %s: not sent: %w", e.topic, ctx.Err()))
			touched[e.target] = true
		}
	}
	for t := range touched {
		if t != nil {
			t.tidy()
		}
	}
	errs := make([]error, len(c.entries))
	for i := range c.entries {
		if e := &c.entries[i]; e.decided {
			errs[i] = e.err
		} else {
			errs[i] = fault.AsUnavailable(fmt.Errorf("send to %s: outcome unknown: %w", e.topic, ctx.Err()))
		}
	}
	return errs
}
