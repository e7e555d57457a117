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
	return fmt.Sprintf("%d orders (%d confirmed, %d timed out, %d unanswered), %d asked again; faults: %s; %d letters redriven; %d checks; %.1f s",
		r.orders(), r.Ended[""], r.Ended[timedOut], r.Unanswered, r.Retries, counts(r.Faults), r.Redriven, len(r.Checks), r.Took.Seconds())
}

// Add adds another run's figures.
func (r *Result) Add(other Result) {
	r.Faults, r.Ended = sum(r.Faults, other.Faults), sum(r.Ended, other.Ended)
	r.Retries += other.Retries
	r.Unanswered += other.Unanswered
	r.Redriven += other.Redriven
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
