package kafka

import (
	"time"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// loadParked finds out what is parked, then closes c.loaded and sees to it until the claim ends. The log is read from an
// offset on.
func (c *claim) loadParked(from int64) {
	p := c.parks
	for {
		keys, err := p.store.Load(c.open, p.topic, p.partition)
		if err == nil {
			c.mu.Lock()
			p.load(keys, c.cfg.Guarantee == AtLeastOnce, from)
			c.mu.Unlock()
			break
		}
		if !c.parkingFailed("what is parked of the partition cannot be read, the partition waits", err) {
			return
		}
	}
	close(c.loaded)
	c.keepParked()
}

// keepParked stores what is to be parked, and has what is parked tried again.
func (c *claim) keepParked() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.mu.Lock()
		batch := c.parks.batch()
		c.tellOfRoom()
		k, wait := c.parks.ready(failpoint.Now())
		c.mu.Unlock()
		if k != nil {
			c.running.Go(func() { c.tryParked(k) })
		}
		if len(batch) > 0 && !c.store(batch) {
			return
		}
		if k != nil || len(batch) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-c.parks.wake:
		case <-timer.C:
		case <-c.stop:
			return
		}
	}
}

// tellOfRoom logs once that messages wait for room, and once that there is again more than a little.
func (c *claim) tellOfRoom() {
	switch p := c.parks; {
	case !p.told && p.waiting() > 0:
		p.told = true
		c.logger.Warn("no more messages of the partition may be parked: those that have to wait keep their places in memory, "+
			"and the partition stands still when they have all of them", "parked", p.stored, "bound", p.most)
	case p.told && p.stored+len(p.queue)+p.asking < p.most-p.most/10:
		p.told = false
		c.logger.Info("messages of the partition may be parked again", "parked", p.stored, "bound", p.most)
	}
}

// store parks a batch, however long it takes. It returns false when the claim ended first.
func (c *claim) store(batch []parking) bool {
	messages := make([]Parked, len(batch))
	for i, m := range batch {
		messages[i] = Parked{Record: received(m.record), Attempts: m.attempts, Due: m.due}
	}
	for {
		err := c.parks.store.Park(c.open, messages...)
		if err == nil {
			break
		}
		if !c.parkingFailed("messages cannot be parked, they wait in memory", err) {
			return false
		}
	}
	for _, m := range batch {
		if m.job != nil {
			c.finish(*m.job)
		}
	}
	c.mu.Lock()
	c.parks.note(batch)
	c.mu.Unlock()
	return true
}

// parkingFailed waits a little; false means that the claim ended.
func (c *claim) parkingFailed(what string, err error) bool {
	if isClosed(c.stop) {
		return false
	}
	c.logger.Warn(what, "error", err)
	select {
	case <-time.After(parkingRetry):
		return true
	case <-c.stop:
		return false
	}
}

// divert has a message parked behind those of its key. If one of these is in hand, it is parked with those behind it; it
// may go on, and is taken out when it is done.
func (c *claim) divert(key string, messages ...job) {
	p := c.parks
	k := p.keys[key]
	if k == nil {
		k = &parkedKey{key: key}
		p.keys[key] = k
		if l := c.lanes[key]; l != nil {
			k.lane = true
			p.enter(parking{key: k, record: l.head.record})
			for i := range l.waiting {
				p.enter(parking{key: k, record: l.waiting[i].record, job: &l.waiting[i]})
			}
			l.waiting = nil
		}
	}
	for i := range messages {
		p.enter(parking{key: k, record: messages[i].record, job: &messages[i]})
	}
}

// nextOf takes the next message of a lane whose last was j, which d handed out; or it ends the lane, because nothing of
// the key is left to hand out, or because what is left is to be parked.
func (c *claim) nextOf(key string, l *lane, j job, d *Delivery) (next job, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, gone := c.parks, d != nil && (d.parked || d.blocked)
	if len(l.waiting) > 0 && !gone && (p == nil || !p.has(key)) {
		l.head, l.waiting = l.waiting[0], l.waiting[1:]
		if p != nil {
			l.began = time.Now()
		}
		return l.head, true
	}
	delete(c.lanes, key)
	if p == nil || !gone && len(l.waiting) == 0 && p.keys[key] == nil {
		return job{}, false
	}
	k := p.keys[key]
	if k == nil {
		k = &parkedKey{key: key}
		p.keys[key] = k
	}
	switch {
	case !gone:
		if k.lane { // it was parked while it was in hand
			k.done = append(k.done, j.record.Offset)
		}
	case d.parked:
		k.due = d.due
		p.enter(parking{key: k, record: j.record, attempts: d.tried, due: d.due, job: &j})
	case !k.lane: // blocked, and so it is stored
		k.stored++
		p.stored++
	}
	c.divert(key, l.waiting...)
	k.lane, k.from = false, k.entered
	p.schedule(k)
	return job{}, false
}

// press makes room: what waits for its next attempt goes into the store, and so do the tails of keys whose first message
// takes long.
func (c *claim) press(tails bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parks.full() {
		return
	}
	for d := range c.parks.waiters {
		close(d.pressed)
	}
	clear(c.parks.waiters)
	if !tails {
		return
	}
	for key, l := range c.lanes {
		if len(l.waiting) > 0 && time.Since(l.began) >= c.cfg.ParkAfter {
			c.divert(key)
		}
	}
}

// offer tells whether a message that has to wait shall be parked at once. If not, its wait may be ended by press.
func (c *claim) offer(d *Delivery, wait time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.pressed = nil
	if c.parks.full() {
		return false
	}
	if wait >= c.cfg.ParkAfter || c.waits {
		return true
	}
	d.pressed = make(chan struct{})
	c.parks.waiters[d] = struct{}{}
	return false
}

// ask counts messages in or out that wait for room.
func (c *claim) ask(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parks.asking += n
	c.parks.signal()
}

func (c *claim) withdraw(d *Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.parks.waiters, d)
}

// tryParked hands out the messages of a key that was parked, one after the other, until one must wait or none is left.
func (c *claim) tryParked(k *parkedKey) {
	for c.tryFirsts(k) {
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.busy = false
	c.parks.retrying--
	if c.parks.keys[k.key] == k {
		c.parks.schedule(k)
	}
	c.parks.signal()
}

// tryFirsts tries some messages of a key. It returns true when it may be that others can be tried at once.
func (c *claim) tryFirsts(k *parkedKey) bool {
	p := c.parks
	if !c.remove(k) {
		return false
	}
	c.mu.Lock()
	entered, stored, all := k.entered, k.stored, k.written == k.entered
	c.mu.Unlock()
	k.due = time.Time{}
	first, err := p.store.First(c.open, p.topic, p.partition, k.key)
	if err != nil {
		c.parkingFailed("parked messages cannot be read", err)
		return false
	}
	if len(first) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		p.removed(k, stored)             // those that were let go; it is room, for which some of the key may wait
		if all && entered == k.entered { // what was on its way when First looked is not seen by it, though it is stored now
			delete(p.keys, k.key) // from now on its messages are handed out as they come
			return false
		}
		k.from = k.entered
		return k.written == k.from
	}
	for i := range first {
		if !c.tryFirst(k, &first[i]) {
			c.remove(k)
			return false
		}
	}
	return true
}

// tryFirst hands one parked message out. It returns true when it is done.
func (c *claim) tryFirst(k *parkedKey, m *Parked) bool {
	p := c.parks
	if m.Blocked || p.store.Held(p.topic, k.key) {
		k.due = failpoint.Now().Add(heldEvery) // if it is not said to be held, that is because it was blocked a moment ago
		return false
	}
	if m.Due.After(failpoint.Now()) {
		k.due = m.Due
		return false
	}
	record := m.received()
	for {
		d, acked, ok := c.deliver(record, m.Attempts, true)
		switch {
		case !ok, d.blocked:
			return false
		case d.parked:
			m.Attempts, m.Due = d.tried, d.due
			k.due = d.due
			if err := p.store.Park(c.open, *m); err != nil {
				c.parkingFailed("the number of attempts at a parked message cannot be written", err)
			}
			return false
		case acked:
			k.done = append(k.done, m.Offset)
			return true
		}
		select {
		case <-time.After(c.cfg.NackDelay):
		case <-c.stop:
			return false
		}
	}
}

// remove takes out of the store what was handled. It returns false when the claim ended first; then it is handed out again,
// and it is for the inbox to know it.
func (c *claim) remove(k *parkedKey) bool {
	if len(k.done) == 0 {
		return true
	}
	for {
		err := c.parks.store.Remove(c.ctx, c.parks.topic, c.parks.partition, k.done...)
		if err == nil {
			break
		}
		if !c.parkingFailed("messages that were handled cannot be taken out of the parking", err) {
			return false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parks.removed(k, len(k.done))
	k.done = nil
	return true
}
