package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

func TestWhatABlockHas(t *testing.T) {
	t.Parallel()
	batch := func(first int64, values ...string) *sarama.RecordBatch {
		b := &sarama.RecordBatch{FirstOffset: first, LastOffsetDelta: int32(len(values) - 1), FirstTimestamp: time.UnixMilli(1000), ProducerID: 1}
		for i, value := range values {
			b.Records = append(b.Records, &sarama.Record{OffsetDelta: int64(i), Value: []byte(value), TimestampDelta: time.Duration(i) * time.Millisecond})
		}
		return b
	}
	transaction := func(producer int64, b *sarama.RecordBatch) *sarama.RecordBatch {
		b.IsTransactional, b.ProducerID = true, producer
		return b
	}
	mark := func(producer, first int64, kind byte) *sarama.RecordBatch {
		b := transaction(producer, batch(first, ""))
		b.Control, b.Records[0].Key = true, []byte{0, 0, 0, kind}
		return b
	}
	const abort, commit = 0, 1
	cut := batch(12, "cut")
	cut.PartialTrailingRecord = true
	compacted := batch(10, "a", "b")
	compacted.LastOffsetDelta = 9
	appended := batch(10, "a")
	appended.LogAppendTime, appended.MaxTimestamp = true, time.UnixMilli(5000)
	for name, test := range map[string]struct {
		batches  []*sarama.RecordBatch
		aborted  []*sarama.AbortedTransaction
		isolated sarama.IsolationLevel
		want     []string
		next     int64
	}{
		"nothing":                       {next: 10},
		"all of it":                     {batches: []*sarama.RecordBatch{batch(10, "a", "b"), batch(12, "c")}, want: []string{"a", "b", "c"}, next: 13},
		"not what was before":           {batches: []*sarama.RecordBatch{batch(8, "x", "y", "a")}, want: []string{"a"}, next: 11},
		"not what is cut off":           {batches: []*sarama.RecordBatch{batch(10, "a", "b"), cut}, want: []string{"a", "b"}, next: 12},
		"up to the end of a gap":        {batches: []*sarama.RecordBatch{compacted}, want: []string{"a", "b"}, next: 20},
		"at the time that the log says": {batches: []*sarama.RecordBatch{appended}, want: []string{"a"}, next: 11},
		"not what was aborted": {
			batches: []*sarama.RecordBatch{
				transaction(1, batch(10, "x")), transaction(2, batch(11, "a")), transaction(1, batch(12, "x")), mark(1, 13, abort), mark(2, 14, commit),
				transaction(1, batch(15, "b")), mark(1, 16, commit), transaction(1, batch(17, "x")), mark(1, 18, abort), batch(19, "c"),
			},
			// Out of order, as a broker may list them.
			aborted:  []*sarama.AbortedTransaction{{ProducerID: 1, FirstOffset: 17}, {ProducerID: 1, FirstOffset: 10}},
			isolated: sarama.ReadCommitted, want: []string{"a", "b", "c"}, next: 20,
		},
		"what was aborted, when that is wanted": {
			batches: []*sarama.RecordBatch{transaction(1, batch(10, "x")), mark(1, 11, abort)}, aborted: []*sarama.AbortedTransaction{{ProducerID: 1, FirstOffset: 10}},
			want: []string{"x"}, next: 12,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			block := &sarama.FetchResponseBlock{AbortedTransactions: test.aborted}
			for _, b := range test.batches {
				block.RecordsSet = append(block.RecordsSet, &sarama.Records{RecordBatch: b})
			}
			s := &source{topic: "topic", number: 3, offset: 10}
			got, next := s.read(block, test.isolated)
			var values []string
			for i, m := range got {
				values = append(values, string(m.Value))
				require.Equal(t, "topic", m.Topic)
				require.EqualValues(t, 3, m.Partition)
				require.True(t, i == 0 || m.Offset > got[i-1].Offset)
			}
			require.Equal(t, test.want, values)
			require.Equal(t, test.next, next)
			if name == "at the time that the log says" {
				require.Equal(t, time.UnixMilli(5000), got[0].Timestamp)
			}
		})
	}
}
