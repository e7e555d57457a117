package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/books"
)

// Result is what a run found.
type Result struct {
	Plan Plan
	// Faults is how many of each kind took place.
	Faults map[Kind]int
	// Ended counts orders by why they were cancelled, "" those that were confirmed.
	Ended map[string]int
	// Retries is how often customers asked again, Unanswered how many orders got no answer at all.
	Retries, Unanswered int
	// Redriven is how often a dead letter was handed back.
	Redriven int
	// Checks are what must hold, with the figures.
	Checks []books.Finding
	// Wrong is everything that did not hold; empty is good.
	Wrong []string
	Took  time.Duration
}

// String is a line for people.
func (r Result) String() string {
	verdict := "ok"
	if len(r.Wrong) > 0 {
		verdict = "FAILED"
	}
	total := 0
	for _, n := range r.Ended {
		total += n
	}
	return fmt.Sprintf("seed %-4d %-6s %4d orders (%d confirmed, %d timed out), asked again %d times; faults: %s; %d letters redriven; %d checks; %.1f s",
		r.Plan.Seed, verdict, total, r.Ended[""], r.Ended[timedOut], r.Retries, Counts(r.Faults), r.Redriven, len(r.Checks), r.Took.Seconds())
}

// Counts is how many there are of each kind, for people.
func Counts(faults map[Kind]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(faults)) {
		parts = append(parts, fmt.Sprintf("%d× %s", faults[k], k))
	}
	return strings.Join(parts, ", ")
}
