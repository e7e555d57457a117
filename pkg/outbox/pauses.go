package outbox

import (
	"maps"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// maxPaused bounds the lanes that are remembered. A lane beyond it does not pause: it is tried each round, after a
// rest when the whole round failed.
const maxPaused = 4096

// pauses are the lanes with a row that could not be sent, each with its own growing pause. While a lane is among them
// its rows are not looked at. When its pause ends, that row is tried by itself; once it is sent, or gone, the lane is
// one like the others again.
type pauses struct {
	initial, max time.Duration
	lanes        map[lane]pause
}

type pause struct {
	seq   int64 // of the row that could not be sent
	until time.Time
	last  time.Duration
}

// add makes the lane pause before the row seq, twice as long as the last time. It returns whether this is its first
// failure in a row, and whether it is remembered.
func (p *pauses) add(l lane, seq int64, now time.Time) (first, kept bool) {
	last, again := p.lanes[l]
	if !again && len(p.lanes) >= maxPaused {
		return true, false
	}
	d := p.initial
	if again {
		d = min(2*last.last, p.max)
	}
	p.lanes[l] = pause{seq: seq, until: now.Add(d), last: d}
	return !again, true
}

// due are the rows whose lane's pause has ended, by the end of the pause, at most limit, with their lanes.
func (p *pauses) due(now time.Time, limit int) map[int64]lane {
	var ended []lane
	for l, pause := range p.lanes {
		if !now.Before(pause.until) {
			ended = append(ended, l)
		}
	}
	slices.SortFunc(ended, func(a, b lane) int { return p.lanes[a].until.Compare(p.lanes[b].until) })
	rows := make(map[int64]lane, min(limit, len(ended)))
	for _, l := range ended[:min(limit, len(ended))] {
		rows[p.lanes[l].seq] = l
	}
	return rows
}

// until is how long to rest when no lane is due: to the first pause's end, at most rest.
func (p *pauses) until(now time.Time, rest time.Duration) time.Duration {
	for _, pause := range p.lanes {
		rest = min(rest, max(0, pause.until.Sub(now)))
	}
	return rest
}

// columns are the lanes for a statement.
func (p *pauses) columns() []database.Column {
	topics, keys := make([]string, 0, len(p.lanes)), make([]string, 0, len(p.lanes))
	for l := range maps.Keys(p.lanes) {
		topics, keys = append(topics, l.topic), append(keys, l.key)
	}
	return []database.Column{database.Texts(topics), database.Texts(keys)}
}
