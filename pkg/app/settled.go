package app

import (
	"context"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

const (
	// ownPatience is for how long the service's own queues may stand still before they are taken for stuck.
	ownPatience = time.Minute
	// comeBack is what a queue that waited when it was first seen gets at least: after a crash a group's members are
	// back in it only when the session of those before has timed out.
	comeBack = 15 * time.Second
	// outboxPlace is where the outbox stands among the queues.
	outboxPlace = "outbox"
)

// Participants are the groups that a service sends commands to, and the topics of these by group.
type Participants map[string][]string

// Settled returns a function that tells up to when all is in that the service waits for: an instant such that of the
// commands sent by then none waits for its participant, and of the answers that were there when those had been handled
// none waits for the service. It is for deadlines (saga.TimersConfig): who is behind is not silent. It sees the groups'
// commits and the outbox, which all replicas share, and participants' outboxes only by giving them the time between two
// looks.
//
// A queue that has not moved for patience (the service's own: a minute) holds nothing up: that is the bound. What was
// not looked at, because the process did not run or the broker was away, counts as having moved. It looks once in
// every; in between, and while things wait, the answer stands still. At first it is the zero time.
func (a *App) Settled(to Participants, patience, every time.Duration) (func(ctx context.Context, now time.Time) (time.Time, error), error) {
	admin, err := kafka.NewAdmin(a.Kafka)
	if err != nil {
		return nil, err
	}
	a.Runtime.OnStop("broker admin of deadlines", func(context.Context) error { return admin.Close() })
	s := &settled{patience: patience, every: every}
	s.look = func(ctx context.Context) (map[place]queue, time.Time, error) {
		groups := map[string][]string{a.Group: slices.DeleteFunc(a.Consumer.Topics(), func(topic string) bool {
			return topic == deadletter.RedriveTopic(a.Group)
		})}
		for group, topics := range to {
			groups[group] = topics
		}
		unsent, err := a.Outbox.Oldest(ctx) // before the topics, where it goes
		if err != nil {
			return nil, unsent, err
		}
		lags, err := admin.Behind(ctx, groups)
		queues := map[place]queue{}
		for _, g := range lags {
			for _, p := range g.Partitions {
				if slices.Contains(groups[g.Group], p.Topic) {
					queues[place{g.Group, p.Topic, p.Partition}] = queue{next: p.End - p.Lag, end: p.End, own: g.Group == a.Group}
				}
			}
		}
		return queues, unsent, err
	}
	return s.at, nil
}

// place is a partition that a group reads.
type place struct {
	group, topic string
	partition    int32
}

// queue is where a group reads next, and where its partition ends.
type queue struct {
	next, end int64
	own       bool
}

// note is what stood in queues at an instant: how far each must get.
type note struct {
	at   time.Time
	left map[place]int64
}

// settled follows notes through the queues: first the participants' commands, then, a look after these were handled,
// the service's answers. It is used by one goroutine.
type settled struct {
	look            func(ctx context.Context) (queues map[place]queue, unsent time.Time, err error)
	patience, every time.Duration

	looked   time.Time // zero after a look that failed
	moved    map[place]movement
	commands *note
	handled  time.Time // when the commands' note was taken, that has been passed since the last look
	answers  *note
	until    time.Time
}

// movement is where a queue was, and since when it is to be there.
type movement struct {
	next  int64
	since time.Time
}

func (s *settled) at(ctx context.Context, now time.Time) (time.Time, error) {
	if !s.looked.IsZero() && now.Sub(s.looked) < s.every {
		return s.until, nil
	}
	queues, unsent, err := s.look(ctx)
	if err != nil {
		s.looked = time.Time{}
		return time.Time{}, err
	}
	upTo := now
	if !unsent.IsZero() {
		// Its place among the queues is for telling whether it moves.
		queues[place{topic: outboxPlace}] = queue{next: unsent.UnixNano(), end: unsent.UnixNano() + 1, own: true}
	}
	s.follow(queues, now)
	if q, waits := queues[place{topic: outboxPlace}]; waits && !s.stuck(place{topic: outboxPlace}, q, now) && unsent.Before(now) {
		upTo = unsent
	}
	delete(queues, place{topic: outboxPlace})

	if s.answers == nil && !s.handled.IsZero() {
		s.answers, s.handled = noted(s.handled, queues, true), time.Time{}
	}
	if s.passed(s.answers, queues, now) {
		s.until, s.answers = s.answers.at, nil
	}
	if s.handled.IsZero() && s.passed(s.commands, queues, now) {
		s.handled, s.commands = s.commands.at, nil
	}
	if s.commands == nil {
		s.commands = noted(upTo, queues, false)
	}
	return s.until, nil
}

// follow keeps in mind since when each queue has not moved.
func (s *settled) follow(queues map[place]queue, now time.Time) {
	blind := s.looked.IsZero() || now.Sub(s.looked) > comeBack
	if blind {
		// The notes were taken of something else, and who waits now has had no chance yet.
		s.moved, s.commands, s.answers, s.handled = nil, nil, nil, time.Time{}
	}
	moved := make(map[place]movement, len(queues))
	for p, q := range queues {
		m, known := s.moved[p]
		if !known || m.next != q.next || q.next >= q.end {
			m = movement{q.next, now}
		}
		if blind {
			m.since = now.Add(max(0, comeBack-s.patienceWith(q)))
		}
		moved[p] = m
	}
	s.looked, s.moved = now, moved
}

func (s *settled) patienceWith(q queue) time.Duration {
	if q.own {
		return max(s.patience, ownPatience)
	}
	return s.patience
}

func (s *settled) stuck(p place, q queue, now time.Time) bool {
	return now.Sub(s.moved[p].since) >= s.patienceWith(q)
}

// noted is a note of what waits in the service's own queues, or in the participants'.
func noted(at time.Time, queues map[place]queue, own bool) *note {
	n := &note{at: at, left: map[place]int64{}}
	for p, q := range queues {
		if q.own == own && q.next < q.end {
			n.left[p] = q.end
		}
	}
	return n
}

// passed crosses out what has been handled, is stuck or is gone, and tells whether nothing of the note is left.
func (s *settled) passed(n *note, queues map[place]queue, now time.Time) bool {
	if n == nil {
		return false
	}
	for p, end := range n.left {
		if q, there := queues[p]; !there || q.next >= end || s.stuck(p, q, now) {
			delete(n.left, p)
		}
	}
	return len(n.left) == 0
}
