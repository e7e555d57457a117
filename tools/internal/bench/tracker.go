package bench

import (
	"sync"
	"time"
)

// maxEarly bounds the ends that nobody has asked for: of orders whose answer is still on its way, and of records that
// came twice.
const maxEarly = 100_000

// end is how and when an order ended, as far as the benchmark can know: when its record arrived.
type end struct {
	at        time.Time
	confirmed bool
}

// tracker brings orders and their ends together. Either may come first.
type tracker struct {
	mu      sync.Mutex
	waiting map[string]chan end
	early   map[string]end
}

func newTracker() *tracker {
	return &tracker{waiting: map[string]chan end{}, early: map[string]end{}}
}

// await returns a channel that gets the order's end, and a function that stops the wait.
func (t *tracker) await(id string) (ended <-chan end, forget func()) {
	ch := make(chan end, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.early[id]; ok {
		delete(t.early, id)
		ch <- e
		return ch, func() {}
	}
	t.waiting[id] = ch
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting, id)
	}
}

// ended is told of an end. The first counts.
func (t *tracker) ended(id string, e end) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch, ok := t.waiting[id]; ok {
		delete(t.waiting, id)
		ch <- e
		return
	}
	if _, ok := t.early[id]; !ok && len(t.early) < maxEarly {
		t.early[id] = e
	}
}
