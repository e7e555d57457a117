package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// call is one batch that somebody sends, and what became of it. All but entries' records is guarded by the producer's
// mu.
type call struct {
	entries []entry
	// left counts the entries that are not decided; done is closed when it is zero.
	left int
	done chan struct{}
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

func newCall(records []Record) *call {
	c := &call{entries: make([]entry, len(records)), left: len(records), done: make(chan struct{})}
	for i, r := range records {
		e := &c.entries[i]
		headers := r.headers()
		e.call, e.topic = c, r.Topic
		e.record = sarama.Record{Key: r.Key, Value: r.Value, Headers: make([]*sarama.RecordHeader, len(headers))}
		e.size = recordOverhead + len(r.Key) + len(r.Value)
		for j := range headers {
			e.record.Headers[j] = &headers[j]
			e.size += headerOverhead + len(headers[j].Key) + len(headers[j].Value)
		}
	}
	return c
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
