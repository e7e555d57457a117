package faults

import (
	"errors"
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
	// Faults is how many of each kind took place, Missed those for which nobody came to the point.
	Faults, Missed map[Kind]int
	// Ended counts orders by why they were cancelled, "" those that were confirmed.
	Ended map[string]int
	// Posts is how often customers asked for them.
	Posts int
	// Redriven is how often a dead letter was handed back.
	Redriven int
	// Lies is of how many orders the provider or the carrier lied.
	Lies int
	// Checks are what must hold, with the figures.
	Checks []books.Finding
	// Wrong is everything that did not hold; empty is good.
	Wrong []string
	Took  time.Duration
}

// Err names everything that did not hold.
func (r Result) Err() error {
	var errs []error
	for _, w := range r.Wrong {
		errs = append(errs, errors.New(w))
	}
	return errors.Join(errs...)
}

// orders is how many there were.
func (r Result) orders() (n int) {
	for _, of := range r.Ended {
		n += of
	}
	return n
}

// String is a line for people.
func (r Result) String() string {
	verdict := "ok"
	if len(r.Wrong) > 0 || len(r.Checks) == 0 {
		verdict = "FAILED"
	}
	return fmt.Sprintf("seed %-5d %-6s  %s", r.Plan.Seed, verdict, r.figures())
}

// Total is a line for people about the n runs that r is the sum of.
func (r Result) Total(n int) string { return fmt.Sprintf("%d seeds: %s", n, r.figures()) }

func (r Result) figures() string {
	missed := ""
	if len(r.Missed) > 0 {
		missed = " (and in vain: " + counts(r.Missed) + ")"
	}
	lies := ""
	if r.Lies > 0 {
		lies = fmt.Sprintf("; %d lies found out", r.Lies)
	}
	return fmt.Sprintf("%d orders of %d POSTs (%d confirmed, %d timed out); faults: %s%s%s; %d letters redriven; %d checks; %.1f s",
		r.orders(), r.Posts, r.Ended[""], r.Ended[timedOut], counts(r.Faults), missed, lies, r.Redriven, len(r.Checks), r.Took.Seconds())
}

// Add adds another run's figures.
func (r *Result) Add(other Result) {
	r.Faults, r.Missed, r.Ended = sum(r.Faults, other.Faults), sum(r.Missed, other.Missed), sum(r.Ended, other.Ended)
	r.Posts += other.Posts
	r.Redriven += other.Redriven
	r.Lies += other.Lies
	r.Checks = append(r.Checks, other.Checks...)
	r.Wrong = append(r.Wrong, other.Wrong...)
	r.Took += other.Took
}

func sum[K comparable](a, b map[K]int) map[K]int {
	all := map[K]int{}
	for _, m := range []map[K]int{a, b} {
		for k, n := range m {
			all[k] += n
		}
	}
	return all
}

// counts is how many there are of each kind.
func counts(faults map[Kind]int) string {
	if len(faults) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(faults)) {
		parts = append(parts, fmt.Sprintf("%d %s", faults[k], k))
	}
	return strings.Join(parts, ", ")
}
