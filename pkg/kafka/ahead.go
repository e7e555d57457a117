package kafka

import "github.com/IBM/sarama"

// How many records, and how many bytes of them, may wait for their handler before the partition is paused. What is
// being fetched at that moment comes on top.
const (
	readAhead      = 4096
	readAheadBytes = 1 << 20
)

// ahead is what was read from one partition and not yet taken up. Reading never stops, because only so can a claim see
// that its partition is taken away; fetching does.
type ahead struct {
	records []*sarama.ConsumerMessage
	bytes   int
	paused  bool
	pause   func(bool)
}

func (a *ahead) add(more ...*sarama.ConsumerMessage) {
	a.records = append(a.records, more...)
	for _, r := range more {
		a.bytes += size(r)
	}
	if !a.paused && (len(a.records) >= readAhead || a.bytes >= readAheadBytes) {
		a.paused = true
		a.pause(true)
	}
}

// first are the oldest records, n at most, which stay until they are dropped.
func (a *ahead) first(n int) []*sarama.ConsumerMessage { return a.records[:min(n, len(a.records))] }

// drop forgets the n oldest records.
func (a *ahead) drop(n int) {
	for i, r := range a.records[:n] {
		a.bytes -= size(r)
		a.records[i] = nil
	}
	a.records = a.records[n:]
	if a.paused && len(a.records) <= readAhead/2 && a.bytes <= readAheadBytes/2 {
		a.paused = false
		a.pause(false)
	}
}

// size is how many bytes of r somebody chose: key, value and headers.
func size(r *sarama.ConsumerMessage) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
