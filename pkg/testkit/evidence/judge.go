package evidence

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// Messages yields the first copy of each message, in the order of the log.
func (l Log) Messages(yield func(Record) bool) {
	seen := map[string]bool{}
	for _, r := range l.Records {
		if r.Err != nil || seen[r.Event.ID] {
			continue
		}
		seen[r.Event.ID] = true
		if !yield(r) {
			return
		}
	}
}

// ByID are the first copies of all messages by their id.
func (l Log) ByID() map[string]Record {
	byID := map[string]Record{}
	for r := range l.Messages {
		byID[r.Event.ID] = r
	}
	return byID
}

// Sequences are the messages of each key by topic, in their order, without what came again.
func (l Log) Sequences() map[string]map[string][]Record {
	keys := map[string]map[string][]Record{}
	for r := range l.Messages {
		if keys[r.Event.Key] == nil {
			keys[r.Event.Key] = map[string][]Record{}
		}
		keys[r.Event.Key][r.Topic] = append(keys[r.Event.Key][r.Topic], r)
	}
	return keys
}

// Strangers names every record that is no message. Expected, which may be nil, tells of those that may stand there.
func (l Log) Strangers(expected func(Record) bool) (wrong []string) {
	for _, r := range l.Records {
		if r.Err != nil && (expected == nil || !expected(r)) {
			wrong = append(wrong, fmt.Sprintf("%s: %s", r, r.Err))
		}
	}
	return wrong
}

// Repeats names every message that stands there a second time with other bytes or headers, or in another partition.
func (l Log) Repeats() (wrong []string) {
	first := map[string]Record{}
	for _, r := range l.Records {
		if r.Err != nil {
			continue
		}
		was, again := first[r.Event.ID]
		if !again {
			first[r.Event.ID] = r
			continue
		}
		for _, d := range differences(was.Record, r.Record) {
			wrong = append(wrong, fmt.Sprintf("%s stands at %s too, with another %s", r, was.Place(), d))
		}
	}
	return wrong
}

func differences(a, b kafka.Record) (in []string) {
	if a.Topic != b.Topic {
		in = append(in, fmt.Sprintf("topic: %s and %s", a.Topic, b.Topic))
	}
	if !bytes.Equal(a.Key, b.Key) {
		in = append(in, fmt.Sprintf("key: %q and %q", a.Key, b.Key))
	}
	if !bytes.Equal(a.Value, b.Value) {
		in = append(in, fmt.Sprintf("value: %s and %s", clip(a.Value), clip(b.Value)))
	}
	names := maps.Clone(a.Headers)
	maps.Copy(names, b.Headers)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if a.Headers[name] != b.Headers[name] {
			in = append(in, fmt.Sprintf("%s: %q and %q", name, a.Headers[name], b.Headers[name]))
		}
	}
	return in
}

// clip bounds what a sentence shows of a value.
func clip(value []byte) string {
	const most = 200
	if len(value) > most {
		return string(value[:most]) + "…"
	}
	return string(value)
}

// Keys names every key whose messages stand in more than one partition of a topic: they have no order.
func (l Log) Keys() (wrong []string) {
	type keyed struct{ topic, key string }
	at := map[keyed]Record{}
	for _, r := range l.Records {
		if r.Err != nil {
			continue
		}
		k := keyed{r.Topic, r.Event.Key}
		if was, is := at[k]; !is {
			at[k] = r
		} else if was.Partition != r.Partition {
			wrong = append(wrong, fmt.Sprintf("%s stands in another partition than %s", r, was))
		}
	}
	return wrong
}

// Causes names every message from which no way leads back to something that began outside: one without a cause, one whose
// cause is neither a message nor, as began says of the message, something outside, and one whose causes go round in a circle.
// It also names a message whose correlation id is not its cause's.
func (l Log) Causes(began func(Record) bool) (wrong []string) {
	byID := l.ByID()
	rooted := map[string]bool{} // those from which a way leads out, or of which it was said that none does
	for r := range l.Messages {
		e := r.Event
		if e.CorrelationID == "" {
			wrong = append(wrong, fmt.Sprintf("%s has no correlation id", r))
		}
		cause, inside := byID[e.CausationID]
		switch {
		case e.CausationID == "":
			wrong = append(wrong, fmt.Sprintf("%s has no cause", r))
		case !inside && !began(r):
			wrong = append(wrong, fmt.Sprintf("%s: its cause %s stands in no topic", r, e.CausationID))
		case inside && cause.Event.CorrelationID != e.CorrelationID:
			wrong = append(wrong, fmt.Sprintf("%s: its correlation id is %s, that of its cause %s", r, e.CorrelationID, cause.Event.CorrelationID))
		}
		var way []string
		for id := e.ID; !rooted[id]; {
			if slices.Contains(way, id) {
				wrong = append(wrong, fmt.Sprintf("%s: its causes go round in a circle: %s", r, strings.Join(way, ", ")))
				break
			}
			way = append(way, id)
			next, inside := byID[byID[id].Event.CausationID]
			if !inside {
				break
			}
			id = next.Event.ID
		}
		for _, id := range way {
			rooted[id] = true
		}
	}
	return wrong
}

// Handled holds a group's inbox against the messages of the topics that it reads: each must be marked, but for those that
// excused tells of (dead letters), and nothing else may be.
func (l Log) Handled(group string, topics []string, marks []Mark, excused func(Record) bool) (wrong []string) {
	marked := map[string]bool{}
	for _, m := range marks {
		if m.Consumer == group {
			id, _, _ := strings.Cut(m.MessageID, "@") // a replay's
			marked[id] = true
		}
	}
	there, may := map[string]Record{}, map[string]bool{}
	for _, r := range l.Records {
		if r.Err == nil && slices.Contains(topics, r.Topic) {
			if _, again := there[r.Event.ID]; !again {
				there[r.Event.ID] = r
			}
			may[r.Event.ID] = may[r.Event.ID] || excused(r)
		}
	}
	for r := range l.Messages {
		if _, is := there[r.Event.ID]; is && !marked[r.Event.ID] && !may[r.Event.ID] {
			wrong = append(wrong, fmt.Sprintf("%s has not handled %s", group, r))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(marked)) {
		if _, is := there[id]; !is {
			wrong = append(wrong, fmt.Sprintf("%s has marked message %s, which stands in none of its topics", group, id))
		}
	}
	return wrong
}

// Behind names every partition in which a group has something left to read.
func Behind(groups []kafka.GroupLag) (wrong []string) {
	for _, g := range groups {
		for _, p := range g.Partitions {
			if p.Lag != 0 {
				wrong = append(wrong, fmt.Sprintf("%s is %d records behind in %s/%d: it has committed %d of %d",
					g.Group, p.Lag, p.Topic, p.Partition, p.Committed, p.End))
			}
		}
	}
	return wrong
}

// Grown names every partition to which records came between the reading of the groups and that of the log.
func (l Log) Grown(groups []kafka.GroupLag) (wrong []string) {
	for _, g := range groups {
		for _, p := range g.Partitions {
			if end, read := l.Ends[Partition{p.Topic, p.Partition}]; read && end != p.End {
				wrong = append(wrong, fmt.Sprintf("%s/%d has grown from offset %d to %d while it was looked at", p.Topic, p.Partition, p.End, end))
			}
		}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}
