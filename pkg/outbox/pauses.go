package outbox

import "time"

// maxPaused bounds the lanes that are remembered. A lane beyond it does not pause: it is tried each round, after a
// rest when the whole round failed.
const maxPaused = 8192

// pauses are the lanes whose head could not be sent, each with its own growing pause.
type pauses struct {
	initial, max time.Duration
	lanes        map[lane]pause
}

type pause struct {
	until time.Time
	last  time.Duration
}

// has tells whether the lane pauses.
func (p *pauses) has(l lane, now time.Time) bool { return now.Before(p.lanes[l].until) }

// add makes the lane pause, twice as long as the last time. It returns whether this is its first failure in a row.
func (p *pauses) add(l lane, now time.Time) (first bool) {
	last, again := p.lanes[l]
	if !again && len(p.lanes) >= maxPaused {
		return true
	}
	d := p.initial
	if again {
		d = min(2*last.last, p.max)
	}
	p.lanes[l] = pause{until: now.Add(d), last: d}
	return !again
}

// until is how long to rest when no lane is due: to the first pause's end, at most rest.
func (p *pauses) until(now time.Time, rest time.Duration) time.Duration {
	for l, pause := range p.lanes {
		left := pause.until.Sub(now)
		switch {
		case left > 0:
			rest = min(rest, left)
		case left < -p.max:
			delete(p.lanes, l) // its rows are gone: another relay has sent them
		}
	}
	return rest
}
