package devstack

import (
	"time"

	"github.com/alicebob/miniredis/v2"
)

const clockInterval = 100 * time.Millisecond

// clock lets keys expire: miniredis leaves that to its user. Its own ClockTTL goes through all keys that expire at every
// command, which a few thousand of them make slow.
type clock struct{ stopping, stopped chan struct{} }

func startClock(server *miniredis.Miniredis) *clock {
	c := &clock{stopping: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(c.stopped)
		ticker := time.NewTicker(clockInterval)
		defer ticker.Stop()
		// Round strips the monotonic reading, so that time in which the machine slept counts.
		last := time.Now().Round(0)
		for {
			select {
			case <-ticker.C:
				now := time.Now().Round(0)
				if elapsed := now.Sub(last); elapsed > 0 {
					server.FastForward(elapsed)
				}
				last = now
			case <-c.stopping:
				return
			}
		}
	}()
	return c
}

func (c *clock) stop() {
	close(c.stopping)
	<-c.stopped
}
