package kafka

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// maxSpan is how far a partition goes on ahead of its lowest unfinished message: that many messages come again after a
// crash.
const maxSpan = 1 << 16

// session is sarama's handler.
type session struct{ subscriber *Subscriber }

// Setup implements sarama.ConsumerGroupHandler.
func (s *session) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (s *session) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler: one partition, from its assignment until it is taken away.
// sarama tells that by closing the claim's channel, and commits the marked offsets after ConsumeClaim has returned,
// before it lets the next member have the partition.
func (s *session) ConsumeClaim(sess sarama.ConsumerGroupSession, assigned sarama.ConsumerGroupClaim) error {
	sub := s.subscriber
	topic, partition := assigned.Topic(), assigned.Partition()
	sub.mu.Lock()
	output := sub.subscriptions[topic]
	sub.mu.Unlock()
	sub.claims.Add(1)
	defer sub.claims.Add(-1)
	// sarama tells whose the partition is, the fetcher reads it: paused, it is in none of sarama's own requests.
	(*sub.group.Load()).Pause(map[string][]int32{topic: {partition}})
	source := sub.fetcher.open(topic, partition, assigned.InitialOffset())
	ctx, cancel := context.WithCancel(output.ctx)
	open, halt := context.WithCancel(ctx)
	c := &claim{
		cfg: sub.cfg, output: output, ctx: ctx, cancel: cancel, open: open, stop: open.Done(), halt: halt,
		logger: sub.logger.With("topic", topic, "partition", partition),
		mark:   func(next int64) { sess.MarkOffset(topic, partition, next, "") },
		commit: func(next int64) error { return sub.member.commit(sess, topic, partition, next) },
		ahead:  ahead{pause: func(paused bool) { sub.fetcher.pause(source, paused) }},
		slots:  make(chan struct{}, min(ownInFlight, sub.cfg.MaxInFlight)), shared: sub.shared, claims: &sub.claims, moved: make(chan struct{}, 1),
		lanes: map[string]*lane{},
	}
	if sub.cfg.Guarantee == AtMostOnce {
		c.mark = func(int64) {}                            // it is committed already, and maybe more than that
		c.slots = make(chan struct{}, sub.cfg.MaxInFlight) // what is committed must be handed out, whatever others do
	}
	if sub.cfg.Parking != nil && sub.cfg.Guarantee != AtMostOnce {
		c.parks, c.loaded = newParks(sub.cfg.Parking, topic, partition, sub.cfg.ParkedMax), make(chan struct{})
		sub.parks(c, true)
		defer sub.parks(c, false)
		c.running.Go(func() { c.loadParked(assigned.InitialOffset()) })
	}
	ended := c.run(assigned.Messages(), source.records, sub.ctx.Done())
	sub.fetcher.release(source)
	c.drain()
	if ended {
		return nil // and the session with it: the next one begins where the log does
	}
	// A claim that returns by itself ends the whole session, so that of a topic which nobody reads any more waits.
	for range assigned.Messages() {
	}
	return nil
}

// claim hands out one partition: a lane a key, each lane one message at a time.
type claim struct {
	cfg    SubscriberConfig
	output *subscription
	logger *slog.Logger
	// ctx is the parent of the messages' contexts.
	ctx    context.Context
	cancel context.CancelFunc
	mark   func(next int64)
	// commit commits at once; for AtMostOnce.
	commit func(next int64) error
	ahead  ahead
	// reserved is up to where AtMostOnce has committed.
	reserved int64

	// slots holds a token for each of the first messages that were taken up and are not finished; those beyond have one in
	// shared, which all claims have in common.
	slots, shared chan struct{}
	// claims is how many there are, each with the same share of the bytes: one that is stuck leaves the others theirs.
	claims *atomic.Int64
	// moved tells run that the lowest unfinished message is another, or that there are fewer bytes in hand.
	moved chan struct{}
	// open ends, and with it stop is closed, when nothing more may be handed out. halt ends it.
	open context.Context
	stop <-chan struct{}
	halt context.CancelFunc
	// running counts lanes.
	running sync.WaitGroup

	mu      sync.Mutex
	lanes   map[string]*lane
	tracker tracker
	// parks is nil without a Parking. loaded is closed when it is known what is parked.
	parks  *parks
	loaded chan struct{}
	// hand counts the messages in hand, and bytes theirs; waits is set while the next message may have to wait for one.
	hand, bytes int
	waits       bool
	// sealed is set when the partition is given up: what is acknowledged later must not move the offset, which may be
	// another member's by then.
	sealed bool
}

// lane is the queue of one key. It exists while it has a message in hand: head, since began.
type lane struct {
	head    job
	began   time.Time
	waiting []job
}

type job struct {
	record *sarama.ConsumerMessage
	ticket int64
	// slot is where its token is.
	slot chan struct{}
}

// run takes records up as places come free, until the partition is taken away (assigned is closed; what comes there is of
// sarama's first request, before it was paused, and comes again), the subscription ends, or closing does. It returns true
// when records is closed: there are none where the partition stands. It never stops reading records: others wait for it.
// Nothing is taken up before c.loaded is closed, if there is one.
func (c *claim) run(assigned <-chan *sarama.ConsumerMessage, records <-chan []*sarama.ConsumerMessage, closing <-chan struct{}) (ended bool) {
	var retry <-chan time.Time // set after a commit that failed
	var pressed <-chan time.Time
	loaded := c.loaded
	for {
		var slot chan struct{}
		if retry == nil && loaded == nil && len(c.ahead.records) > 0 {
			slot = c.room(c.ahead.records[0])
			if c.parks != nil && len(slot) == cap(slot) {
				c.press(false)
				if pressed == nil {
					pressed = time.After(pressEvery)
				}
			}
		}
		select {
		case _, ok := <-assigned:
			if !ok {
				return false
			}
		case more, ok := <-records:
			if !ok {
				return true
			}
			c.ahead.add(more...)
		case slot <- struct{}{}:
			if c.cfg.Guarantee == AtMostOnce && !c.reserve() {
				<-slot
				retry = time.After(c.cfg.NackDelay)
				continue
			}
			c.take(c.ahead.records[0], slot)
			c.ahead.drop(1)
		case <-retry:
			retry = nil
		case <-loaded:
			loaded = nil
		case <-pressed:
			pressed = nil
			c.press(true)
		case <-c.moved:
		case <-c.output.done:
			return false
		case <-closing:
			return false
		}
	}
}

// reserve sees to it that the next record's offset is committed, together with those of the next MaxInFlight.
func (c *claim) reserve() bool {
	if c.ahead.records[0].Offset < c.reserved {
		return true
	}
	batch := c.ahead.first(c.cfg.MaxInFlight)
	next := batch[len(batch)-1].Offset + 1
	if err := c.commit(next); err != nil {
		// Nobody knows whether it was committed: until it was, nothing of the batch is handed out. If the partition is
		// taken away before, the next member starts behind the batch or with it.
		c.logger.Warn("messages wait until their offset is committed", "error", err)
		return false
	}
	c.reserved = next
	return true
}

// handOutReserved hands out what is committed, which no member will ever get again, and waits for it until over.
func (c *claim) handOutReserved(over <-chan struct{}) {
	for len(c.ahead.records) > 0 && c.ahead.records[0].Offset < c.reserved {
		select {
		case c.slots <- struct{}{}:
			c.take(c.ahead.records[0], c.slots)
			c.ahead.drop(1)
		case <-c.output.done:
			return
		case <-over:
			return
		}
	}
	for range c.cfg.MaxInFlight { // when all places are free, all are finished
		select {
		case c.slots <- struct{}{}:
		case <-c.output.done:
			return
		case <-over:
			return
		}
	}
}

// take puts record, whose token is in slot, into its key's lane. A record without a key has a lane of its own.
func (c *claim) take(record *sarama.ConsumerMessage, slot chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hand++
	c.bytes += size(record)
	j := job{record: record, ticket: c.tracker.start(record.Offset), slot: slot}
	if record.Key == nil {
		c.running.Go(func() { c.work(j) })
		return
	}
	key := string(record.Key)
	if c.parks != nil {
		c.parks.taken(record.Offset)
		if c.parks.has(key) {
			c.divert(key, j)
			return
		}
	}
	if l := c.lanes[key]; l != nil {
		l.waiting = append(l.waiting, j)
		return
	}
	l := &lane{head: j}
	if c.parks != nil {
		l.began = time.Now()
	}
	c.lanes[key] = l
	c.running.Go(func() {
		for next, ok := j, true; ok; {
			var d *Delivery
			if d, ok = c.work(next); ok {
				next, ok = c.nextOf(key, l, next, d)
			}
		}
	})
}

// work sees one message through to its acknowledgement. It returns false when the claim ended first.
func (c *claim) work(j job) (*Delivery, bool) {
	for {
		d, acked, ok := c.deliver(j.record, 0, false)
		if !ok {
			return nil, false
		}
		if acked || c.cfg.Guarantee == AtMostOnce {
			if d == nil || !d.parked {
				c.finish(j)
			}
			return d, true
		}
		select {
		case <-time.After(c.cfg.NackDelay):
		case <-c.stop:
			return nil, false
		}
	}
}

// deliver hands the message out once and waits for the answer. The delivery is nil for one that cannot be parked.
func (c *claim) deliver(record *sarama.ConsumerMessage, attempts int, kept bool) (d *Delivery, acked, ok bool) {
	msg := unmarshal(record)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	if c.parks != nil && record.Key != nil {
		d = &Delivery{Context: ctx, claim: c, attempts: attempts, kept: kept}
		msg.SetContext(d)
	} else {
		msg.SetContext(ctx)
	}
	if !c.output.send(msg, c.stop) {
		return d, false, false
	}
	select {
	case <-msg.Acked():
		return d, true, true
	case <-msg.Nacked():
		return d, false, true
	case <-c.ctx.Done():
		return d, false, false
	}
}

func unmarshal(record *sarama.ConsumerMessage) *message.Message {
	msg, _ := Marshaler{}.Unmarshal(record) // cannot fail
	return msg
}

// finish gives the message's place free and marks the offset if it was the lowest unfinished one.
func (c *claim) finish(j job) {
	failpoint.Pass(failpoint.OffsetBeforeCommit)
	// Before run is told to look: it would find its own places taken, and wait for a shared one that may never come free.
	<-j.slot
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hand--
	c.bytes -= size(j.record)
	next, moved := c.tracker.finish(j.ticket)
	if moved && !c.sealed {
		c.mark(next)
	}
	if moved || c.waits {
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
}

// room is where a token for the next message may be put, beside those in hand: nil when it must wait for one of them. One
// always may be in hand.
func (c *claim) room(next *sarama.ConsumerMessage) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = true
	switch {
	case c.tracker.span() >= maxSpan || c.hand >= c.cfg.MaxInFlight:
		return nil
	case c.bytes > 0 && c.bytes+size(next) > c.cfg.MaxInFlightBytes/int(c.claims.Load()):
		return nil
	case len(c.slots) < cap(c.slots):
		c.waits = false
		return c.slots
	default:
		return c.shared
	}
}

// drain hands out nothing more, lets what is in hand finish within DrainTimeout, and seals the claim. Handlers that
// are still at work then see their context end; their messages come again, here or at another member. AtMostOnce first
// hands out what it has committed, in the same time.
func (c *claim) drain() {
	over, cancel := context.WithTimeout(context.Background(), c.cfg.DrainTimeout)
	defer cancel()
	if c.cfg.Guarantee == AtMostOnce {
		c.handOutReserved(over.Done())
	}
	c.halt()
	finished := make(chan struct{})
	go func() {
		c.running.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-over.Done():
		c.logger.Warn("messages in hand did not finish in time", "timeout", c.cfg.DrainTimeout, "guarantee", c.cfg.Guarantee)
	}
	c.mu.Lock()
	c.sealed = true
	c.mu.Unlock()
	c.cancel()
	<-finished
}
