package bench

import (
	"math"
	"slices"
	"time"
)

// Latency are percentiles of a load's latencies in milliseconds, with the number of orders that they are of.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
}

// latencyOf sorts the samples.
func latencyOf(samples []time.Duration) Latency {
	slices.Sort(samples)
	return Latency{
		Count: len(samples),
		P50:   milliseconds(rank(samples, 50)), P90: milliseconds(rank(samples, 90)), P99: milliseconds(rank(samples, 99)),
		P999: milliseconds(rank(samples, 99.9)), Max: milliseconds(rank(samples, 100)),
	}
}

// rank is the percentile by nearest rank: the smallest sample that at least p percent are not above. Of none it is 0.
func rank(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	// The small number takes back what 99.9/100 is too large by.
	n := int(math.Ceil(p/100*float64(len(sorted)) - 1e-9))
	return sorted[min(max(n, 1), len(sorted))-1]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
