package evidence_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
)

// written makes a log of messages in the order in which they were written, each to partition 0 of the topic of its type.
type written struct {
	log evidence.Log
}

func (w *written) put(partition int32, e event.Event) {
	offset := int64(0)
	for _, r := range w.log.Records {
		if r.Topic == e.Type && r.Partition == partition {
			offset++
		}
	}
	w.log.Records = append(w.log.Records, evidence.NewRecord(kafka.Record{
		Topic: e.Type, Partition: partition, Offset: offset, Key: []byte(e.Key), Value: e.Data, Headers: e.Headers(),
	}))
}

// chain is a story of four: a request led to one, one to two, two to three and four.
func chain() []event.Event {
	message := func(id, typ, cause string) event.Event {
		return event.Event{
			ID: id, Type: typ, Source: "/t", Subject: "k", Key: "k", Time: time.Unix(1, 0), CorrelationID: "story", CausationID: cause, Data: []byte(`{"id":"` + id + `"}`),
		}
	}
	return []event.Event{message("one", "a", "request"), message("two", "b", "one"), message("three", "a", "two"), message("four", "c", "two")}
}

func TestJudgements(t *testing.T) {
	t.Parallel()
	began := func(r evidence.Record) bool { return r.Event.CausationID == "request" }
	for _, tc := range []struct {
		name  string
		plant func(w *written, all []event.Event)
		says  []string // part of each sentence
	}{
		{"sound", func(w *written, all []event.Event) {}, nil},
		{"sent again", func(w *written, all []event.Event) { w.put(0, all[0]) }, nil},
		{"sent again with another value", func(w *written, all []event.Event) {
			all[0].Data = []byte(`{"id":"other"}`)
			w.put(0, all[0])
		}, []string{`a one of k at a-0-2 stands at a-0-0 too, with another value: {"id":"one"} and {"id":"other"}`}},
		{"sent again with another header", func(w *written, all []event.Event) {
			all[0].Extra = map[string]string{"x": "1"}
			w.put(0, all[0])
		}, []string{`with another x: "" and "1"`}},
		{"sent again to another partition", func(w *written, all []event.Event) { w.put(1, all[0]) },
			[]string{"a one of k at a-1-0 stands in another partition than a one of k at a-0-0"}},
		{"under another key", func(w *written, all []event.Event) {
			all[0].Key = "l"
			w.put(0, all[0])
		}, []string{`another key: "k" and "l"`, `another ce_partitionkey: "k" and "l"`}},
		{"no message", func(w *written, all []event.Event) {
			w.log.Records = append(w.log.Records, evidence.NewRecord(kafka.Record{Topic: "a", Offset: 2}))
		}, []string{"the record at a-0-2: header ce_id is missing"}},
		{"another key than it says", func(w *written, all []event.Event) {
			w.log.Records[3].Key = []byte("l")
			w.log.Records[3] = evidence.NewRecord(w.log.Records[3].Record)
		}, []string{`the record at c-0-0: the record's key is "l", header ce_partitionkey is "k"`}},
		{"no cause", func(w *written, all []event.Event) {
			all[0].ID, all[0].CausationID = "five", ""
			w.put(0, all[0])
		}, []string{"a five of k at a-0-2 has no cause"}},
		{"an unknown cause", func(w *written, all []event.Event) {
			all[0].ID, all[0].CausationID = "five", "none"
			w.put(0, all[0])
		}, []string{"a five of k at a-0-2: its cause none stands in no topic"}},
		{"another story than its cause's", func(w *written, all []event.Event) {
			all[1].ID, all[1].CorrelationID = "five", "another"
			w.put(0, all[1])
		}, []string{"b five of k at b-0-1: its correlation id is another, that of its cause story"}},
		{"no story", func(w *written, all []event.Event) {
			all[0].ID, all[0].CorrelationID = "five", ""
			w.put(0, all[0])
		}, []string{"a five of k at a-0-2 has no correlation id"}},
		{"a circle", func(w *written, all []event.Event) {
			all[0].ID, all[0].CausationID = "five", "six"
			w.put(0, all[0])
			all[0].ID, all[0].CausationID = "six", "five"
			w.put(0, all[0])
		}, []string{"a five of k at a-0-2: its causes go round in a circle: five, six"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w, all := &written{}, chain()
			for _, e := range all {
				w.put(0, e)
			}
			tc.plant(w, all)
			wrong := slices.Concat(w.log.Strangers(nil), w.log.Repeats(), w.log.Keys(), w.log.Causes(began))
			require.Len(t, wrong, len(tc.says), "%v", wrong)
			for i, says := range tc.says {
				require.Contains(t, wrong[i], says)
			}
		})
	}
}

func TestStrangersMayBeExpected(t *testing.T) {
	t.Parallel()
	log := evidence.Log{Records: []evidence.Record{evidence.NewRecord(kafka.Record{Topic: "a"})}}
	require.Len(t, log.Strangers(func(r evidence.Record) bool { return r.Topic == "b" }), 1)
	require.Empty(t, log.Strangers(func(r evidence.Record) bool { return r.Topic == "a" }))
}

func TestSequencesLeaveOutWhatCameAgain(t *testing.T) {
	t.Parallel()
	w, all := &written{}, chain()
	for _, i := range []int{0, 2, 0, 2, 1, 3} {
		w.put(0, all[i])
	}
	var got []string
	for key, topics := range w.log.Sequences() {
		for _, topic := range []string{"a", "b", "c"} {
			for _, r := range topics[topic] {
				got = append(got, key+topic+r.Event.ID)
			}
		}
	}
	require.Equal(t, []string{"kaone", "kathree", "kbtwo", "kcfour"}, got)
	require.Len(t, w.log.ByID(), 4)
}

func TestHandled(t *testing.T) {
	t.Parallel()
	marks := func(ids ...string) (all []evidence.Mark) {
		for _, id := range ids {
			all = append(all, evidence.Mark{Consumer: "group", MessageID: id})
		}
		return append(all, evidence.Mark{Consumer: "another", MessageID: "nine"})
	}
	w := &written{}
	for _, e := range append(chain(), chain()[0]) {
		w.put(0, e)
	}
	for _, tc := range []struct {
		name    string
		marks   []evidence.Mark
		excused string
		says    []string
	}{
		{"all", marks("one", "two", "three"), "", nil},
		{"one replayed", marks("one", "one@replay", "two", "three"), "", nil},
		{"one not", marks("one", "two"), "", []string{"group has not handled a three of k at a-0-1"}},
		{"one is a dead letter", marks("one", "two"), "a-0-1", nil},
		{"the second copy of one is a dead letter", marks("two", "three"), "a-0-2", nil},
		{"one too many", marks("one", "two", "three", "four"), "", []string{"group has marked message four, which stands in none of its topics"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			wrong := w.log.Handled("group", []string{"a", "b"}, tc.marks, func(r evidence.Record) bool { return r.Place() == tc.excused })
			require.Equal(t, tc.says, wrong)
		})
	}
}

func TestBehindAndGrown(t *testing.T) {
	t.Parallel()
	log := evidence.Log{Ends: map[evidence.Partition]int64{{Topic: "a", Number: 0}: 5, {Topic: "a", Number: 1}: 7}}
	at := func(number int32, committed, end int64) kafka.PartitionLag {
		return kafka.PartitionLag{Topic: "a", Partition: number, Committed: committed, End: end, Lag: end - committed}
	}
	groups := []kafka.GroupLag{{Group: "g", Partitions: []kafka.PartitionLag{at(0, 5, 5), at(1, 7, 7)}}, {Group: "h", Partitions: []kafka.PartitionLag{at(0, 5, 5)}}}
	require.Empty(t, evidence.Behind(groups))
	require.Empty(t, log.Grown(groups))
	groups[0].Partitions[1], groups[1].Partitions[0] = at(1, 6, 7), at(0, 4, 4)
	groups[0].Partitions[0] = at(0, 4, 4)
	require.Equal(t, []string{"g is 1 records behind in a/1: it has committed 6 of 7"}, evidence.Behind(groups))
	require.Equal(t, []string{"a/0 has grown from offset 4 to 5 while it was looked at"}, log.Grown(groups), "once, for two groups")
}

// A sentence stays short, whatever a value holds.
func TestValuesAreCut(t *testing.T) {
	t.Parallel()
	w, all := &written{}, chain()
	w.put(0, all[0])
	all[0].Data = []byte(strings.Repeat("x", 10_000))
	w.put(0, all[0])
	require.Less(t, len(w.log.Repeats()[0]), 500)
}
