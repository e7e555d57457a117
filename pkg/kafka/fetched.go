package kafka

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/IBM/sarama"
)

// source is a partition that is being read.
type source struct {
	topic  string
	number int32
	// records are those that come, in their order. It is closed when the log has nothing where the reader stands; the
	// partition must be taken up anew, wherever it begins then.
	records chan []*sarama.ConsumerMessage
	// gone is closed when nobody reads any more.
	gone chan struct{}

	// offset is the next record's, size how many bytes to ask for. They belong to whoever has the source in hand.
	offset int64
	size   int32
	// session is where the source is read, and paused holds it back; the fetcher's mu guards them.
	session *fetchSession
	paused  bool
}

// read returns the block's records from the source's offset on, and the offset after them. What a transaction
// wrote that was aborted is left out, and so are the marks of their ends.
func (s *source) read(block *sarama.FetchResponseBlock, isolation sarama.IsolationLevel) (records []*sarama.ConsumerMessage, next int64) {
	next = s.offset
	begun := slices.SortedFunc(slices.Values(block.AbortedTransactions), func(a, b *sarama.AbortedTransaction) int {
		return cmp.Compare(a.FirstOffset, b.FirstOffset)
	})
	aborting := map[int64]bool{} // producers, from where they began what they aborted to the mark of its end
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil || batch.PartialTrailingRecord {
			break // what is cut off comes whole with the next answer
		}
		for len(begun) > 0 && begun[0].FirstOffset <= batch.LastOffset() {
			aborting[begun[0].ProducerID], begun = true, begun[1:]
		}
		next = max(next, batch.LastOffset()+1)
		switch {
		case batch.Control:
			if aborted(batch) {
				delete(aborting, batch.ProducerID)
			}
		case isolation == sarama.ReadCommitted && batch.IsTransactional && aborting[batch.ProducerID]:
		default:
			records = s.messages(records, batch)
		}
	}
	return records, next
}

// aborted tells whether a control batch is the mark of an aborted transaction: its key is a version and a type.
func aborted(batch *sarama.RecordBatch) bool {
	return len(batch.Records) > 0 && len(batch.Records[0].Key) >= 4 && binary.BigEndian.Uint16(batch.Records[0].Key[2:]) == 0
}

// messages appends the batch's records to messages, but for those before the source's offset.
func (s *source) messages(messages []*sarama.ConsumerMessage, batch *sarama.RecordBatch) []*sarama.ConsumerMessage {
	all := make([]sarama.ConsumerMessage, len(batch.Records))
	messages = slices.Grow(messages, len(all))
	for i, r := range batch.Records {
		at := batch.FirstTimestamp.Add(r.TimestampDelta)
		if batch.LogAppendTime {
			at = batch.MaxTimestamp
		}
		all[i] = sarama.ConsumerMessage{
			Topic: s.topic, Partition: s.number, Offset: batch.FirstOffset + r.OffsetDelta, Timestamp: at,
			Key: r.Key, Value: r.Value, Headers: r.Headers,
		}
		if all[i].Offset >= s.offset {
			messages = append(messages, &all[i])
		}
	}
	return messages
}
