package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// readTimeout bounds the wait for the next record that should be there.
const readTimeout = 10 * time.Second

// Record is a record as it stands in a topic, and what it says.
type Record struct {
	kafka.Record
	// Event is the message, if the record is one.
	Event event.Event
	// Err is why it is none.
	Err error
}

// NewRecord reads what a record says.
func NewRecord(r kafka.Record) Record {
	e, err := event.FromHeaders(r.Headers, r.Value)
	if err == nil && string(r.Key) != e.Key {
		err = fmt.Errorf("the record's key is %q, header %s is %q", r.Key, event.HeaderKey, e.Key)
	}
	return Record{Record: r, Event: e, Err: err}
}

// Place is where the record stands, in the form of a dead letter's id: topic-partition-offset.
func (r Record) Place() string { return fmt.Sprintf("%s-%d-%d", r.Topic, r.Partition, r.Offset) }

// String names a message for people: its type, id, key and place.
func (r Record) String() string {
	if r.Err != nil {
		return "the record at " + r.Place()
	}
	return fmt.Sprintf("%s %s of %s at %s", r.Event.Type, r.Event.ID, r.Event.Key, r.Place())
}

// Partition is a partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// Log is what stands in some topics.
type Log struct {
	// Records are sorted by topic, partition and offset.
	Records []Record
	// Ends are the offsets behind the last record that was read.
	Ends map[Partition]int64
}

// Reader reads topics from their first record on. It joins no group and commits nothing.
type Reader struct {
	cfg    kafka.Config
	admin  *kafka.Admin
	topics []string
	read   map[Partition][]Record
	ends   map[Partition]int64
}

// NewReader returns a reader of topics. It connects at its first Read; Close it.
func NewReader(cfg kafka.Config, topics ...string) (*Reader, error) {
	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, admin: admin, topics: topics, read: map[Partition][]Record{}, ends: map[Partition]int64{}}, nil
}

// Close disconnects.
func (r *Reader) Close() error { return r.admin.Close() }

// Read returns every record that stands in the topics now. What an earlier Read has read is not read again. A log whose
// begin is gone, or that has become shorter, is an error: it proves nothing. So is one that ends in a transaction's marker.
func (r *Reader) Read(ctx context.Context) (Log, error) {
	ends, wanted := map[Partition]int64{}, 0
	for _, topic := range r.topics {
		ranges, err := r.admin.Ranges(ctx, topic)
		if err != nil {
			return Log{}, err
		}
		for number, stretch := range ranges {
			p := Partition{topic, number}
			if stretch.Start > 0 {
				return Log{}, fmt.Errorf("%s/%d begins at offset %d: what stood before is gone", topic, number, stretch.Start)
			}
			if stretch.End < r.ends[p] {
				return Log{}, fmt.Errorf("%s/%d ends at offset %d, where it had ended at %d: records are gone", topic, number, stretch.End, r.ends[p])
			}
			if ends[p] = stretch.End; stretch.End > r.ends[p] {
				wanted++
			}
		}
	}
	if wanted > 0 {
		if err := r.follow(ctx, ends, wanted); err != nil {
			return Log{}, err
		}
	}
	log := Log{Ends: maps.Clone(r.ends)}
	for p, end := range ends {
		log.Ends[p] = end
	}
	for _, p := range slices.SortedFunc(maps.Keys(r.read), func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	}) {
		log.Records = append(log.Records, r.read[p]...)
	}
	return log, nil
}

// follow reads those partitions, wanted of them, that have not been read up to their ends. All at once: sarama takes a
// tenth of a second over each that begins alone.
func (r *Reader) follow(ctx context.Context, ends map[Partition]int64, wanted int) (err error) {
	consumer, err := sarama.NewConsumer(r.cfg.Brokers, r.cfg.Sarama())
	if err != nil {
		return fmt.Errorf("read topics: %w", err)
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	came, stop := make(chan *sarama.ConsumerMessage), make(chan struct{})
	defer close(stop)
	for p, end := range ends {
		if r.ends[p] >= end {
			continue
		}
		records, err := consumer.ConsumePartition(p.Topic, p.Number, r.ends[p])
		if err != nil {
			return fmt.Errorf("read %s/%d: %w", p.Topic, p.Number, err)
		}
		defer records.AsyncClose()
		go func() {
			for m := range records.Messages() {
				select {
				case came <- m:
				case <-stop: // what sarama still has is drained, for it to close
				}
			}
		}()
	}
	idle := time.NewTimer(readTimeout)
	defer idle.Stop()
	for wanted > 0 {
		select {
		case m := <-came:
			p := Partition{m.Topic, m.Partition}
			if m.Offset >= ends[p] || m.Offset < r.ends[p] {
				continue
			}
			r.read[p] = append(r.read[p], NewRecord(recordOf(m)))
			if r.ends[p] = m.Offset + 1; r.ends[p] == ends[p] {
				wanted--
			}
			idle.Reset(readTimeout)
		case <-idle.C:
			return fmt.Errorf("read topics: no record for %s, and %d partitions are not at their end", readTimeout, wanted)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func recordOf(m *sarama.ConsumerMessage) kafka.Record {
	r := kafka.Record{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UTC(), Key: m.Key, Value: m.Value,
		Headers: make(map[string]string, len(m.Headers)),
	}
	for _, h := range m.Headers {
		if h != nil {
			r.Headers[string(h.Key)] = string(h.Value)
		}
	}
	return r
}
