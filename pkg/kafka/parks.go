package kafka

import (
	"container/heap"
	"time"

	"github.com/IBM/sarama"
)

const (
	// parkBatch is how many messages are parked at once.
	parkBatch = 500
	// retriesMax is how many parked keys of a partition are tried at a time.
	retriesMax = 16
	// pressEvery is how often a claim without room looks for keys whose tails take it.
	pressEvery = 100 * time.Millisecond
	// heldEvery is how often a claim looks whether keys that are held were let go.
	heldEvery = 200 * time.Millisecond
	// parkingRetry is the wait after the Parking failed.
	parkingRetry = 500 * time.Millisecond
)

// parks is what a claim knows of its parked keys. All is under the claim's mu.
//
// The invariant: when a message of a key is parked, so is every unfinished one before it. So whoever has the partition next
// finds in the Parking where the key stands, whatever comes again from the log.
type parks struct {
	store     Parking
	topic     string
	partition int32
	keys      map[string]*parkedKey
	// due are the keys that wait for their instant, held those that wait to be let go.
	due  dueKeys
	held map[*parkedKey]bool
	// looked is when it was last seen whether those in held were let go.
	looked time.Time
	// queue is on its way into the store, in order.
	queue []parking
	// stored counts messages in the store. It may be too high by some that came a second time, or were let go, until their
	// key has none.
	stored, most int
	// asking counts the messages that wait for room before they are parked as blocked; told is set when it was logged that
	// there is none.
	asking   int
	told     bool
	retrying int
	// waiters are the messages that wait in memory for their next attempt.
	waiters map[*Delivery]struct{}
	// behind is set until the log has been taken up as far as upTo, the last that was parked: where messages may take effect
	// twice, nothing is tried before. Else of those that come again after a crash an earlier one would have the last word.
	behind bool
	upTo   int64
	wake   chan struct{}
}

// parkedKey is a key that has messages parked, or on their way there. New ones go behind them.
type parkedKey struct {
	key    string
	stored int
	// entered counts what went into the queue, written what came out; the key is not tried before written is from.
	entered, written, from int
	// lane is set while a message of the key is in hand that was taken up before.
	lane bool
	// busy is set while it is tried, waiting while it is in due or held.
	busy, waiting bool
	due           time.Time
	// done were handled, and are still in the store.
	done []int64
}

// parking is a message on its way into the store.
type parking struct {
	key      *parkedKey
	record   *sarama.ConsumerMessage
	attempts int
	due      time.Time
	// job is finished when the message is stored; nil for a copy of one that is in hand.
	job *job
}

func newParks(store Parking, topic string, partition int32, most int) *parks {
	return &parks{
		store: store, topic: topic, partition: partition, most: most,
		keys: map[string]*parkedKey{}, held: map[*parkedKey]bool{}, waiters: map[*Delivery]struct{}{}, wake: make(chan struct{}, 1),
	}
}

// has tells whether new messages of key go into the store.
func (p *parks) has(key string) bool {
	return len(p.keys) > 0 && p.keys[key] != nil || p.store.Held(p.topic, key)
}

// load enters what is parked. Where messages may take effect twice, and the log comes again from an offset before them, they
// wait for that.
func (p *parks) load(keys []ParkedKey, twice bool, from int64) {
	for _, found := range keys {
		p.keys[found.Key] = &parkedKey{key: found.Key, stored: found.Messages}
		p.stored += found.Messages
		p.upTo = max(p.upTo, found.Last)
	}
	p.behind = twice && len(keys) > 0 && from <= p.upTo
	p.scheduleAll()
}

// taken notes that a record was taken up.
func (p *parks) taken(offset int64) {
	if p.behind && offset >= p.upTo {
		p.behind = false
		p.scheduleAll()
	}
}

func (p *parks) scheduleAll() {
	for _, k := range p.keys {
		k.from = k.entered
		p.schedule(k)
	}
}

// full tells that no more keys may be parked. What comes again after a crash is stored already, most of it.
func (p *parks) full() bool { return !p.behind && p.stored+len(p.queue) >= p.most }

// spent tells that what is in the queue must wait.
func (p *parks) spent() bool { return !p.behind && p.stored >= p.most }

// waiting counts the messages that keep their places in memory because no more may be parked.
func (p *parks) waiting() int {
	if !p.spent() {
		return 0
	}
	return len(p.queue) + p.asking
}

func (p *parks) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// enter puts a message behind those that are on their way into the store.
func (p *parks) enter(m parking) {
	m.key.entered++
	p.queue = append(p.queue, m)
	p.signal()
}

// schedule has the key tried when it is due, unless somebody is at it who will say so again.
func (p *parks) schedule(k *parkedKey) {
	switch {
	case p.behind || k.lane || k.busy || k.waiting || k.written < k.from:
	case p.store.Held(p.topic, k.key):
		k.waiting, p.held[k] = true, true
	default:
		k.waiting = true
		heap.Push(&p.due, k)
	}
	p.signal()
}

// release schedules the held keys that were let go.
func (p *parks) release(now time.Time) {
	if now.Sub(p.looked) < heldEvery {
		return
	}
	p.looked = now
	for k := range p.held {
		if !p.store.Held(p.topic, k.key) {
			delete(p.held, k)
			k.waiting, k.due = false, time.Time{}
			p.schedule(k)
		}
	}
}

// ready takes the next key that is due, or says how long to wait for one.
func (p *parks) ready(now time.Time) (k *parkedKey, wait time.Duration) {
	p.release(now)
	wait = time.Hour
	if len(p.held) > 0 {
		wait = heldEvery
	}
	if p.retrying == retriesMax || len(p.due) == 0 {
		return nil, wait
	}
	if k = p.due[0]; k.due.After(now) {
		return nil, min(wait, k.due.Sub(now))
	}
	heap.Pop(&p.due)
	k.waiting, k.busy = false, true
	p.retrying++
	return k, 0
}

// batch is the first of the queue, as long as there is room. It leaves the queue when it is stored (note): until then it counts.
func (p *parks) batch() []parking {
	if p.spent() {
		return nil
	}
	return p.queue[:min(parkBatch, len(p.queue))]
}

// note notes that a batch is stored.
func (p *parks) note(batch []parking) {
	p.queue = p.queue[len(batch):]
	p.stored += len(batch)
	for _, m := range batch {
		m.key.written++
		m.key.stored++
	}
	for _, m := range batch {
		p.schedule(m.key)
	}
}

// removed notes that messages of a key are no longer stored.
func (p *parks) removed(k *parkedKey, n int) {
	n = min(n, k.stored)
	k.stored -= n
	p.stored -= n
	p.signal()
}

// dueKeys is a heap, the next that is due first.
type dueKeys []*parkedKey

func (d dueKeys) Len() int           { return len(d) }
func (d dueKeys) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dueKeys) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dueKeys) Push(k any)        { *d = append(*d, k.(*parkedKey)) }
func (d *dueKeys) Pop() any {
	last := len(*d) - 1
	k := (*d)[last]
	*d = (*d)[:last]
	return k
}
