package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// Request is a wish for a replay.
type Request struct {
	// ID is letters, digits, '.', '_' and '-', up to 64: who asks again with it asks for the same replay.
	ID string
	// Topic is copied from, and Target is the group that gets it.
	Topic, Target string
	From, To      Bound
	// Inbox is deadletter.ReplaySkip or ReplayAgain.
	Inbox string
}

// Plan is what a replay covers and how far it is.
type Plan struct {
	ID, Topic, Target, Inbox string
	// Begun is when it began; zero if it has not.
	Begun time.Time
	// Partitions are sorted; those that the replay leaves out are not among them.
	Partitions []Partition
}

// Partition is a replay's stretch of one partition: the offsets from From up to and without To, copied up to and without
// Next.
type Partition struct {
	Partition      int32
	From, To, Next int64
}

// Total is how many offsets the replay covers: at most so many records.
func (p Plan) Total() (n int64) {
	for _, r := range p.Partitions {
		n += r.To - r.From
	}
	return n
}

// Done is how many of them are copied.
func (p Plan) Done() (n int64) {
	for _, r := range p.Partitions {
		n += r.Next - r.From
	}
	return n
}

// note is what the plan's group has as a commit's metadata; the commit's offset is To.
type note struct {
	From   int64     `json:"from"`
	Target string    `json:"target"`
	Inbox  string    `json:"inbox"`
	Begun  time.Time `json:"begun"`
}

// copyGroup is the consumer group that copies, planGroup the one that keeps the plan.
func copyGroup(id string) string { return "replay." + id }
func planGroup(id string) string { return copyGroup(id) + ".plan" }

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Prepare makes the plan of a replay, or returns that of the one with the id if there is one, whatever its bounds are
// now. It writes nothing.
func Prepare(ctx context.Context, admin *kafka.Admin, r Request) (Plan, error) {
	p := Plan{ID: r.ID, Topic: r.Topic, Target: r.Target, Inbox: r.Inbox}
	if !validID.MatchString(r.ID) {
		return p, fmt.Errorf("the replay's id is %q, must be 1 to 64 letters, digits, '.', '_' and '-'", r.ID)
	}
	if r.Inbox != deadletter.ReplaySkip && r.Inbox != deadletter.ReplayAgain {
		return p, fmt.Errorf("the replay's inbox is %q, must be %s or %s", r.Inbox, deadletter.ReplaySkip, deadletter.ReplayAgain)
	}
	known, err := recall(ctx, admin, p)
	if err != nil || len(known.Partitions) > 0 {
		return known, err
	}
	ranges, err := stretch(ctx, admin, r.Topic, r.From, r.To)
	if err != nil {
		return p, err
	}
	for _, partition := range slices.Sorted(maps.Keys(ranges)) {
		at := ranges[partition]
		p.Partitions = append(p.Partitions, Partition{Partition: partition, From: at.Start, To: at.End, Next: at.Start})
	}
	return p, nil
}

// recall reads the plan of a replay that has begun; without partitions if there is none.
func recall(ctx context.Context, admin *kafka.Admin, p Plan) (Plan, error) {
	plan, err := admin.Commits(ctx, planGroup(p.ID), p.Topic)
	if err != nil {
		return p, err
	}
	if len(plan) == 0 {
		groups, err := admin.Groups(ctx)
		if err != nil {
			return p, err
		}
		if slices.Contains(groups, planGroup(p.ID)) || slices.Contains(groups, copyGroup(p.ID)) {
			return p, fmt.Errorf("replay %s is of another topic than %s, or did not begin whole: choose another id", p.ID, p.Topic)
		}
		return p, nil
	}
	for partition, commit := range plan {
		var n note
		if err := json.Unmarshal([]byte(commit.Metadata), &n); err != nil {
			return p, fmt.Errorf("the plan of replay %s cannot be read: %w", p.ID, err)
		}
		if n.Target != p.Target || n.Inbox != p.Inbox {
			return p, fmt.Errorf("replay %s is for group %s with inbox %s: choose another id", p.ID, n.Target, n.Inbox)
		}
		p.Begun = n.Begun
		p.Partitions = append(p.Partitions, Partition{Partition: partition, From: n.From, To: commit.Offset})
	}
	slices.SortFunc(p.Partitions, func(a, b Partition) int { return int(a.Partition - b.Partition) })
	return p, p.locate(ctx, admin)
}

// locate reads how far the copying is.
func (p *Plan) locate(ctx context.Context, admin *kafka.Admin) error {
	lags, err := admin.Lag(ctx, map[string][]string{copyGroup(p.ID): {p.Topic}})
	if err != nil {
		return err
	}
	at := map[int32]kafka.PartitionLag{}
	for _, l := range lags[0].Partitions {
		if l.Topic == p.Topic {
			at[l.Partition] = l
		}
	}
	for i := range p.Partitions {
		part := &p.Partitions[i]
		l, is := at[part.Partition]
		if !is || l.Committed < 0 {
			return fmt.Errorf("it is not known any more how far replay %s is in partition %d: choose another id", p.ID, part.Partition)
		}
		part.Next = min(max(l.Committed, part.From), part.To)
		if !l.Unknown && l.Oldest.IsZero() { // what is left is no record: a transaction's marker, or deleted
			part.Next = part.To
		}
	}
	return nil
}

// Begin writes the plan down. A plan that has begun stays as it is.
func (p *Plan) Begin(ctx context.Context, admin *kafka.Admin, now time.Time) error {
	if !p.Begun.IsZero() {
		return nil
	}
	ranges, err := admin.Ranges(ctx, p.Topic)
	if err != nil {
		return err
	}
	positions, plan := map[int32]kafka.Commit{}, map[int32]kafka.Commit{}
	for partition, r := range ranges {
		positions[partition] = kafka.Commit{Offset: r.End} // what is left out
	}
	begun := now.UTC().Truncate(time.Millisecond)
	for _, r := range p.Partitions {
		text, err := json.Marshal(note{From: r.From, Target: p.Target, Inbox: p.Inbox, Begun: begun})
		if err != nil {
			return err
		}
		positions[r.Partition] = kafka.Commit{Offset: r.From}
		plan[r.Partition] = kafka.Commit{Offset: r.To, Metadata: string(text)}
	}
	// In this order: a plan that can be read has positions.
	if err := admin.Commit(ctx, copyGroup(p.ID), p.Topic, positions); err != nil {
		return err
	}
	if err := admin.Commit(ctx, planGroup(p.ID), p.Topic, plan); err != nil {
		return err
	}
	p.Begun = begun
	return nil
}

// Forget removes what is kept of a replay. Its id is new after that.
func Forget(ctx context.Context, admin *kafka.Admin, id string) error {
	if err := admin.DeleteGroup(ctx, planGroup(id)); err != nil {
		return err
	}
	return admin.DeleteGroup(ctx, copyGroup(id))
}
