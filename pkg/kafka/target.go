package kafka

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// noProducer is the producer id of who has none.
const noProducer = -1

// target is what waits for one partition, and how its records are numbered. The producer's mu guards queue and
// busy, and decides entries; the rest belongs to who made it busy.
type target struct {
	topic  string
	number int32
	// queue is what waits, in the order in which it came.
	queue []*entry
	// busy says that somebody has the partition in hand: it stands in a line, is in a request, or recovers.
	busy bool
	// batch is what was sent, or was about to be, and is not decided. It goes before the queue, and as it was.
	batch *batch
	// most is how many records the next batch may have. It is halved when a batch is refused, so that what is wrong with
	// one of them is in the end its own, and doubled when one was taken.
	most int
	// producer numbers what is sent from sequence on. A record's number is used up when the record is known to be in the
	// log; until then the same batch is sent under the same numbers, and the cluster drops what it has.
	producer identity
	sequence int32
}

// identity is a producer that the cluster knows.
type identity struct {
	id    int64
	epoch int16
}

var nobody = identity{noProducer, -1}

// batch is what one request has for one partition.
type batch struct {
	entries []*entry
	records *sarama.RecordBatch
	size    int
	// tries are the attempts that failed.
	tries int
	since time.Time
}

// compressFrom is the size of the smallest batch, in bytes, that is compressed: below it the processors pay more than they
// save (docs/PERFORMANCE.md).
const compressFrom = 8 << 10

// next returns what the partition sends next, or nil. A batch is at most limit bytes, or one record.
func (t *target) next(limit int, codec sarama.CompressionCodec) *batch {
	if t.batch != nil || len(t.queue) == 0 {
		return t.batch
	}
	n, size := 0, batchOverhead
	for n < len(t.queue) && n < t.most && (n == 0 || size+t.queue[n].size <= limit) {
		size += t.queue[n].size
		n++
	}
	b := &batch{entries: t.queue[:n:n], size: size, since: failpoint.Now()}
	if t.queue = t.queue[n:]; len(t.queue) == 0 {
		t.queue = nil
	}
	at := b.since.Truncate(time.Millisecond)
	b.records = &sarama.RecordBatch{
		Version: 2, Codec: codec, CompressionLevel: sarama.CompressionLevelDefault,
		FirstTimestamp: at, MaxTimestamp: at, LastOffsetDelta: int32(n - 1), Records: make([]*sarama.Record, n),
	}
	for i, e := range b.entries {
		e.sent = true
		e.record.OffsetDelta = int64(i)
		b.records.Records[i] = &e.record
	}
	if size < compressFrom {
		b.records.Codec = sarama.CompressionNone
	}
	t.batch = b
	return b
}

// identify numbers the batch under way with what comes next. A partition without a producer takes the given one.
func (t *target) identify(producer identity) {
	if t.producer == nobody {
		t.producer, t.sequence = producer, 0
	}
	r := t.batch.records
	r.ProducerID, r.ProducerEpoch, r.FirstSequence = t.producer.id, t.producer.epoch, t.sequence
	if t.producer == nobody {
		r.FirstSequence = -1
	}
}

// taken books that the cluster has the batch.
func (t *target) taken() {
	b := t.batch
	// Kafka's numbers go on at 0 after the largest.
	t.sequence = int32((int64(t.sequence) + int64(len(b.entries))) & math.MaxInt32)
	t.batch = nil
	t.most = min(2*t.most, math.MaxInt32)
	for _, e := range b.entries {
		e.decide(nil)
	}
}

// refused books that the cluster will never take the batch: of many, the first half is tried by itself.
func (t *target) refused(err error) {
	b := t.batch
	t.batch = nil
	if len(b.entries) > 1 {
		t.most = len(b.entries) / 2
		for _, e := range b.entries {
			e.sent = false
		}
		t.queue = slices.Concat(b.entries, t.queue)
	} else {
		b.entries[0].fail(err, t.queue)
	}
	t.tidy()
}

// gaveUp books that nobody will know what became of the batch. What its callers have behind it is not sent.
func (t *target) gaveUp(err error) {
	b := t.batch
	t.batch = nil
	callers := map[*call]bool{}
	for _, e := range b.entries {
		callers[e.call] = true
		e.decide(err)
	}
	for _, e := range t.queue {
		if callers[e.call] {
			e.decide(fmt.Errorf("not sent, because what is before it was not: %w", err))
		}
	}
	t.tidy()
}

// gone decides all that is there.
func (t *target) gone(err error) {
	if t.batch != nil {
		t.gaveUp(err)
	}
	for _, e := range t.queue {
		e.decide(err)
	}
	t.queue = nil
}

// tidy removes what is decided from the queue.
func (t *target) tidy() {
	t.queue = slices.DeleteFunc(t.queue, func(e *entry) bool { return e.decided })
}
