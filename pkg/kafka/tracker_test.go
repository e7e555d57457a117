package kafka

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever the order in which records finish, the offset never passes an unfinished one, and reaches the end when all
// are finished.
func TestTracker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		unfinished := map[int64]int64{} // ticket to offset
		var offset, marked int64
		last := int64(-1)
		check := func(ticket int64) {
			if next, moved := tr.finish(ticket); moved {
				if next <= marked {
					t.Fatalf("the offset went back from %d to %d", marked, next)
				}
				marked = next
			}
			delete(unfinished, ticket)
			for _, offset := range unfinished {
				if offset < marked {
					t.Fatalf("%d is unfinished, %d was marked", offset, marked)
				}
			}
		}
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			if len(unfinished) == 0 || rapid.Bool().Draw(t, "start") {
				offset += rapid.Int64Range(1, 3).Draw(t, "gap")
				unfinished[tr.start(offset)], last = offset, offset
				continue
			}
			tickets := make([]int64, 0, len(unfinished))
			for ticket := range tr.base + int64(len(tr.records)) {
				if _, ok := unfinished[ticket]; ok {
					tickets = append(tickets, ticket)
				}
			}
			check(rapid.SampledFrom(tickets).Draw(t, "finish"))
		}
		for ticket := range unfinished {
			check(ticket)
		}
		if tr.span() != 0 || (last >= 0 && marked != last+1) {
			t.Fatalf("span %d, marked %d, last %d", tr.span(), marked, last)
		}
	})
}
