package kafka

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Bounds of the search for the oldest records. Most partitions answer in the first round with a few KiB; a round more is
// for a batch that is larger than that, for a stretch without records, and for each further place that groups on one partition have.
const (
	maxProbes     = 8
	probeBytes    = 16 << 10
	probeBatch    = maxRecord // as large as any batch that our topics take
	probeResponse = 4 << 20
)

// oldestProbe is a search for the first record of a partition from an offset on.
type oldestProbe struct {
	place
	offset, end int64
	bytes       int32
	// lags are those of the groups that read on from there.
	lags []*PartitionLag
}

type place struct {
	topic     string
	partition int32
}

// readOldest fills in the oldest record of every partition with lag: at most maxProbes requests to each leader.
func readOldest(client sarama.Client, lags []GroupLag) {
	type start struct {
		place
		offset int64
	}
	var open []*oldestProbe
	known := map[start]*oldestProbe{}
	for g := range lags {
		for p := range lags[g].Partitions {
			l := &lags[g].Partitions[p]
			at := start{place{l.Topic, l.Partition}, l.position()}
			if at.offset >= l.End {
				continue
			}
			l.Unknown = true // until it is found
			if known[at] == nil {
				known[at] = &oldestProbe{place: at.place, offset: at.offset, end: l.End, bytes: probeBytes}
				open = append(open, known[at])
			}
			known[at].lags = append(known[at].lags, l)
		}
	}
	for range maxProbes {
		if open = probeRound(client, open); len(open) == 0 {
			return
		}
	}
}

// probeRound asks every leader once and returns what is still to be asked. What failed is not asked again.
func probeRound(client sarama.Client, open []*oldestProbe) (still []*oldestProbe) {
	requests, asked := map[*sarama.Broker]*sarama.FetchRequest{}, map[*sarama.Broker]map[place]*oldestProbe{}
	for _, p := range open {
		leader, err := client.Leader(p.topic, p.partition)
		if err != nil {
			continue
		}
		if asked[leader] == nil {
			asked[leader] = map[place]*oldestProbe{}
			// Outside of a fetch session, and without waiting for records to come.
			requests[leader] = &sarama.FetchRequest{
				Version: 11, MaxBytes: probeResponse, SessionEpoch: -1, Isolation: client.Config().Consumer.IsolationLevel,
			}
		}
		if asked[leader][p.place] != nil { // a request names a partition once
			still = append(still, p)
			continue
		}
		asked[leader][p.place] = p
		requests[leader].AddBlock(p.topic, p.partition, p.offset, p.bytes, -1)
	}
	for leader, request := range requests {
		response, err := leader.Fetch(request)
		if err != nil {
			continue
		}
		for at, p := range asked[leader] {
			if p.read(response.GetBlock(at.topic, at.partition)) {
				still = append(still, p)
			}
		}
	}
	return still
}

// read takes an answer and tells whether to ask again.
func (p *oldestProbe) read(block *sarama.FetchResponseBlock) bool {
	if block == nil {
		return true // the answer was full before
	}
	if !errors.Is(block.Err, sarama.ErrNoError) {
		return false
	}
	from := p.offset
	aborted, dropped := block.AbortedTransactions, map[int64]bool{}
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	for _, records := range block.RecordsSet {
		batch := records.RecordBatch
		if batch == nil || batch.PartialTrailingRecord {
			break
		}
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			dropped[aborted[0].ProducerID], aborted = true, aborted[1:]
		}
		if batch.Control { // the end of a transaction
			delete(dropped, batch.ProducerID)
		} else if !batch.IsTransactional || !dropped[batch.ProducerID] {
			if at, found := first(batch, from, p.end); found {
				return p.answer(at, at.IsZero())
			}
		}
		p.offset = max(p.offset, batch.LastOffset()+1)
	}
	if p.offset >= p.end { // transaction markers and gaps only
		return p.answer(time.Time{}, false)
	}
	if p.offset == from {
		if p.bytes == probeBatch && len(block.RecordsSet) == 0 && block.LastStableOffset <= from {
			return false // behind a transaction that is still open
		}
		p.bytes = probeBatch
	}
	return true
}

// answer gives the groups what was found; there is nothing more to ask.
func (p *oldestProbe) answer(oldest time.Time, unknown bool) bool {
	for _, l := range p.lags {
		l.Oldest, l.Unknown = oldest, unknown
	}
	return false
}

// first returns the timestamp of a batch's first record from one offset up to and without another; zero if the record has
// none.
func first(batch *sarama.RecordBatch, from, end int64) (time.Time, bool) {
	for _, r := range batch.Records {
		switch offset := batch.FirstOffset + r.OffsetDelta; {
		case offset < from || offset >= end:
		case batch.FirstTimestamp.IsZero():
			return time.Time{}, true
		case batch.LogAppendTime:
			return batch.MaxTimestamp.UTC(), true
		default:
			return batch.FirstTimestamp.Add(r.TimestampDelta).UTC(), true
		}
	}
	return time.Time{}, false
}
