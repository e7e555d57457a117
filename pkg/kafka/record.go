package kafka

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/event"
)

// Metadata of a message that came from Kafka, for RecordOf. The prefix is reserved: Marshal sends none of it.
const (
	reserved      = "_kafka_"
	metaTopic     = reserved + "topic"
	metaPartition = reserved + "partition"
	metaOffset    = reserved + "offset"
	metaTimestamp = reserved + "timestamp"
	metaKey       = reserved + "key"
	// headerUUID carries a Watermill UUID that is not the event's id; the name is watermill-kafka's.
	headerUUID = "_watermill_message_uuid"
)

// Record is a Kafka record as it stands in a topic, whether or not it is a message of ours.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	// Timestamp is Kafka's, in UTC: when the record was sent, not when the event happened.
	Timestamp time.Time
	// Key and Value are nil where Kafka's are null.
	Key, Value []byte
	// Headers hold any bytes. Of headers with one name the last is kept.
	Headers map[string]string
}

// Marshaler is watermill-kafka's MarshalerUnmarshaler. It cannot fail: what a record is worth is for the handler to
// say, and an error here would stop the partition for ever.
type Marshaler struct{}

// Marshal makes a record of msg: metadata as headers, the partition key (header ce_partitionkey) as the Kafka key.
func (Marshaler) Marshal(topic string, msg *message.Message) (*sarama.ProducerMessage, error) {
	return outgoing(topic, msg).message(), nil
}

// outgoing is what Marshal makes a record of.
func outgoing(topic string, msg *message.Message) Record {
	headers := make(map[string]string, len(msg.Metadata)+1)
	maps.Copy(headers, msg.Metadata)
	if msg.UUID != "" && msg.UUID != headers[event.HeaderID] {
		headers[headerUUID] = msg.UUID
	}
	r := Record{Topic: topic, Value: msg.Payload, Headers: headers}
	if key, ok := headers[event.HeaderKey]; ok {
		r.Key = []byte(key)
	}
	return r
}

// Unmarshal makes a message of any record. Its UUID is the event's id, or the record's place without one.
func (Marshaler) Unmarshal(r *sarama.ConsumerMessage) (*message.Message, error) {
	msg := message.NewMessage("", r.Value)
	for _, h := range r.Headers {
		if h != nil && !strings.HasPrefix(string(h.Key), reserved) {
			msg.Metadata[string(h.Key)] = string(h.Value)
		}
	}
	partition, offset := strconv.Itoa(int(r.Partition)), strconv.FormatInt(r.Offset, 10)
	for _, id := range []string{msg.Metadata[headerUUID], msg.Metadata[event.HeaderID], r.Topic + "/" + partition + "/" + offset} {
		if id != "" {
			msg.UUID = id
			break
		}
	}
	delete(msg.Metadata, headerUUID)
	msg.Metadata[metaTopic] = r.Topic
	msg.Metadata[metaPartition] = partition
	msg.Metadata[metaOffset] = offset
	msg.Metadata[metaTimestamp] = r.Timestamp.UTC().Format(time.RFC3339Nano)
	if r.Key != nil {
		msg.Metadata[metaKey] = string(r.Key)
	}
	return msg, nil
}

// RecordOf returns the record that m was made of, and false if m did not come from Kafka.
func RecordOf(m *message.Message) (Record, bool) {
	partition, err := strconv.ParseInt(m.Metadata[metaPartition], 10, 32)
	if err != nil {
		return Record{}, false
	}
	offset, err := strconv.ParseInt(m.Metadata[metaOffset], 10, 64)
	if err != nil {
		return Record{}, false
	}
	// A timestamp that does not parse is left zero: the record is worth more than its time.
	at, _ := time.Parse(time.RFC3339Nano, m.Metadata[metaTimestamp])
	r := Record{
		Topic: m.Metadata[metaTopic], Partition: int32(partition), Offset: offset, Timestamp: at, Value: m.Payload,
		Headers: make(map[string]string, len(m.Metadata)),
	}
	if key, ok := m.Metadata[metaKey]; ok {
		r.Key = []byte(key)
	}
	for name, value := range m.Metadata {
		if !strings.HasPrefix(name, reserved) {
			r.Headers[name] = value
		}
	}
	return r, true
}

// received is the record that r is.
func received(r *sarama.ConsumerMessage) Record {
	headers := make(map[string]string, len(r.Headers))
	for _, h := range r.Headers {
		if h != nil && !strings.HasPrefix(string(h.Key), reserved) {
			headers[string(h.Key)] = string(h.Value)
		}
	}
	return Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(),
		Key: r.Key, Value: r.Value, Headers: headers,
	}
}

// received is the inverse of the function of that name.
func (r Record) received() *sarama.ConsumerMessage {
	m := &sarama.ConsumerMessage{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value,
	}
	for name, value := range r.headers() {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	return m
}

// message is r on its way to r.Topic; Kafka chooses partition, offset and time. Headers of the reserved prefix are left
// out: an event that is forwarded carries where it came from, and that is not for the wire.
func (r Record) message() *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: r.Topic}
	if r.Key != nil {
		m.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		m.Value = sarama.ByteEncoder(r.Value)
	}
	for name, value := range r.headers() {
		if !strings.HasPrefix(name, reserved) {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
	}
	return m
}

// headers yields r's, sorted by name.
func (r Record) headers() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			if !yield(name, r.Headers[name]) {
				return
			}
		}
	}
}
