package deadletter

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// Headers of a dead letter, all text, added to those the record had.
const (
	HeaderTopic     = "original-topic"
	HeaderPartition = "original-partition"
	HeaderOffset    = "original-offset"
	HeaderTimestamp = "original-timestamp"
	HeaderGroup     = "consumer-group"
	HeaderErrorType = "error-type"
	HeaderError     = "error-message"
	HeaderRetries   = "retry-count"
	HeaderFailedAt  = "failed-at"
)

// Values of HeaderErrorType.
const (
	Permanent   = "permanent"
	Transient   = "transient"
	Undecodable = "undecodable"
)

// maxError bounds the error text in a header, in bytes.
const maxError = 2000

// Topic is where a consumer group's dead letters go.
func Topic(group string) string { return group + ".dlq" }

// RedriveTopic is where a dead letter is handed back to its group.
func RedriveTopic(group string) string { return group + ".redrive" }

// Failure is why a group gave a record up.
type Failure struct {
	Group     string
	ErrorType string
	Err       error
	// Retries is how often the message was tried again after the first attempt.
	Retries int
	At      time.Time
}

// New returns the dead letter for r: the same key, value and headers, with the failure added. A record that came
// through the redrive topic keeps the place it was first read from, and so its identity.
func New(r kafka.Record, f Failure) kafka.Record {
	h := make(map[string]string, len(r.Headers)+9)
	maps.Copy(h, r.Headers)
	if r.Topic != RedriveTopic(f.Group) || h[HeaderTopic] == "" {
		h[HeaderTopic] = r.Topic
		h[HeaderPartition] = strconv.FormatInt(int64(r.Partition), 10)
		h[HeaderOffset] = strconv.FormatInt(r.Offset, 10)
		h[HeaderTimestamp] = r.Timestamp.UTC().Format(time.RFC3339Nano)
	}
	message := f.Err.Error()
	if len(message) > maxError {
		message = message[:maxError]
	}
	h[HeaderGroup] = f.Group
	h[HeaderErrorType] = f.ErrorType
	h[HeaderError] = message
	h[HeaderRetries] = strconv.Itoa(f.Retries)
	h[HeaderFailedAt] = f.At.UTC().Format(time.RFC3339Nano)
	return kafka.Record{Topic: Topic(f.Group), Key: r.Key, Value: r.Value, Headers: h}
}

// ID is a letter's identity: the place its record was first read from, as "topic-partition-offset".
func ID(headers map[string]string) string {
	return fmt.Sprintf("%s-%s-%s", headers[HeaderTopic], headers[HeaderPartition], headers[HeaderOffset])
}

// State of a letter.
type State string

// The states of a letter; doc.go has the picture.
const (
	Waiting   State = "waiting"
	Redriving State = "redriving"
	Redriven  State = "redriven"
	Discarded State = "discarded"
)

// Letter is a dead letter as the table has it.
type Letter struct {
	ID        string
	Group     string
	Topic     string // the original one, like Partition, Offset and Timestamp
	Partition int32
	Offset    int64
	Timestamp time.Time

	Key     []byte
	Value   []byte
	Headers map[string]string // with the dead-letter headers

	EventID   string // empty when the record has none
	EventType string

	ErrorType string
	Error     string
	Retries   int
	Failures  int // how often it was dead-lettered
	FailedAt  time.Time

	State     State
	UpdatedAt time.Time
	Actor     string // who redrove or discarded it last
	Reason    string // and why
}

// FromRecord reads a record of a dead-letter topic. A record that is no dead letter gets an identity of its own place
// in that topic and is listed as undecodable: whatever stands in the topic is accounted for.
func FromRecord(r kafka.Record, group string) Letter {
	h := r.Headers
	if h[HeaderTopic] == "" {
		h = New(r, Failure{
			Group: group, ErrorType: Undecodable, At: r.Timestamp,
			Err: fmt.Errorf("the record has no %s header", HeaderTopic),
		}).Headers
	}
	l := Letter{
		ID: ID(h), Group: group, Topic: h[HeaderTopic], Key: r.Key, Value: r.Value, Headers: h,
		EventID: h[event.HeaderID], EventType: h[event.HeaderType],
		ErrorType: h[HeaderErrorType], Error: h[HeaderError], Failures: 1, State: Waiting,
	}
	// A number that does not parse stays zero; the header itself is kept.
	if n, err := strconv.ParseInt(h[HeaderPartition], 10, 32); err == nil {
		l.Partition = int32(n)
	}
	l.Offset, _ = strconv.ParseInt(h[HeaderOffset], 10, 64)
	l.Retries, _ = strconv.Atoi(h[HeaderRetries])
	l.Timestamp = timeOr(h[HeaderTimestamp], r.Timestamp)
	l.FailedAt = timeOr(h[HeaderFailedAt], r.Timestamp)
	return l
}

func timeOr(text string, fallback time.Time) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at.UTC()
	}
	return fallback.UTC()
}

// Record is the letter on its way back to its group.
func (l Letter) Record() kafka.Record {
	return kafka.Record{Topic: RedriveTopic(l.Group), Key: l.Key, Value: l.Value, Headers: l.Headers}
}
