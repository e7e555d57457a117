package deadletter

import (
	"fmt"
	"maps"
	"slices"
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
	// HeaderFailures says which failure of its message a letter is, from 1. On a redrive topic it says which one the next
	// would be: what is sent twice fails once.
	HeaderFailures = "failure-count"

	// A record on a redrive topic that is no dead letter but history, read again, has HeaderReplay, which is the replay's
	// id, beside the place that it was copied from. HeaderReplayInbox says what its inbox mark is.
	HeaderReplay      = "replay-id"
	HeaderReplayInbox = "replay-inbox"

	// HeaderOmitted stands on a letter that could not be written whole (Shortened) and says what is missing.
	HeaderOmitted = "omitted"
)

// Values of HeaderErrorType.
const (
	Permanent   = "permanent"
	Transient   = "transient"
	Undecodable = "undecodable"
)

// Values of HeaderReplayInbox: a message that has been handled is dropped, or it is handled once more in each replay.
const (
	ReplaySkip  = "skip"
	ReplayAgain = "again"
)

// maxError bounds the error text in a header, in bytes.
const maxError = 2000

// Bounds of what a shortened letter keeps, in bytes: each text, and all headers together.
const (
	maxKept        = 2000
	maxKeptHeaders = 64 << 10
)

// maxTopic is the length of Kafka's longest topic name.
const maxTopic = 249

// Topic is where a consumer group's dead letters go.
func Topic(group string) string { return group + ".dlq" }

// IndexGroup is the consumer group that reads a group's dead letters into its table.
func IndexGroup(group string) string { return Topic(group) + ".index" }

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
// through the redrive topic keeps the place it was first read from, and so its identity, and its count of failures.
func New(r kafka.Record, f Failure) kafka.Record {
	h := make(map[string]string, len(r.Headers)+10)
	maps.Copy(h, r.Headers)
	if r.Topic != RedriveTopic(f.Group) || !placed(h) {
		h[HeaderTopic] = r.Topic
		h[HeaderPartition] = strconv.FormatInt(int64(r.Partition), 10)
		h[HeaderOffset] = strconv.FormatInt(r.Offset, 10)
		h[HeaderTimestamp] = r.Timestamp.UTC().Format(time.RFC3339Nano)
		h[HeaderFailures] = "1"
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

// placed tells whether headers name the place of a record. They may be anybody's, and the place becomes a database's
// key: a letter without one must not hold up the index.
func placed(h map[string]string) bool {
	partition, offset := h[HeaderPartition], h[HeaderOffset]
	if h[HeaderTopic] == "" || len(h[HeaderTopic]) > maxTopic || len(partition) > 20 || len(offset) > 20 {
		return false
	}
	_, err := strconv.ParseUint(partition, 10, 31)
	_, offsetErr := strconv.ParseUint(offset, 10, 63)
	return err == nil && offsetErr == nil
}

// Shortened is a letter that its topic refuses for its size, without the value and without what else is long: a record
// that cannot be kept whole must not stop its partition. It still says where the record stands.
func Shortened(letter kafka.Record) kafka.Record {
	short := kafka.Record{Topic: letter.Topic, Headers: map[string]string{}}
	omitted := fmt.Sprintf("the value, %d bytes", len(letter.Value))
	if len(letter.Key) <= maxKept {
		short.Key = letter.Key
	} else {
		omitted += fmt.Sprintf("; the key, %d bytes", len(letter.Key))
	}
	kept, left := 0, 0
	keep := func(name string) {
		if _, done := short.Headers[name]; done {
			return
		}
		size := len(name) + len(letter.Headers[name])
		if size > maxKept+maxTopic || kept+size > maxKeptHeaders {
			left++
			return
		}
		short.Headers[name] = letter.Headers[name]
		kept += size
	}
	for _, name := range []string{
		HeaderTopic, HeaderPartition, HeaderOffset, HeaderTimestamp, HeaderGroup, HeaderErrorType, HeaderError, HeaderRetries, HeaderFailedAt, HeaderFailures,
	} {
		keep(name)
	}
	for _, name := range slices.Sorted(maps.Keys(letter.Headers)) {
		keep(name)
	}
	if left > 0 {
		omitted += fmt.Sprintf("; %d headers", left)
	}
	short.Headers[HeaderOmitted] = omitted
	return short
}

// ID is a letter's identity: the place its record was first read from, as "topic-partition-offset".
func ID(headers map[string]string) string {
	return fmt.Sprintf("%s-%s-%s", headers[HeaderTopic], headers[HeaderPartition], headers[HeaderOffset])
}

// State of a letter.
type State string

// The states of a letter; doc.go has the picture.
const (
	Waiting     State = "waiting"
	Redriving   State = "redriving"
	FailedAgain State = "failed_again"
	Redriven    State = "redriven"
	Discarded   State = "discarded"
)

// Open is not a state but two, for filters: waiting and failed_again, which wait for an operator.
const Open State = "open"

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
	Cause     string // Error without what differs from one message to the next
	Retries   int
	Failures  int // how often it was dead-lettered; of FromRecord 0 if the record does not say (letters of before)
	FailedAt  time.Time

	State     State
	UpdatedAt time.Time
	Actor     string // who redrove or discarded it last
	Reason    string // and why
	Job       string // the last job that took it, or empty
	Edits     int    // how often its body was changed
	Omitted   string // what is missing of it (Shortened); empty for a whole letter
}

// FromRecord reads a record of a dead-letter topic. A record that is no dead letter gets an identity of its own place
// in that topic and is listed as undecodable: whatever stands in the topic is accounted for.
func FromRecord(r kafka.Record, group string) Letter {
	h := r.Headers
	if !placed(h) {
		h = New(r, Failure{
			Group: group, ErrorType: Undecodable, At: r.Timestamp,
			Err: fmt.Errorf("the record does not say where it was: %s, %s and %s are wanted", HeaderTopic, HeaderPartition, HeaderOffset),
		}).Headers
	}
	l := Letter{
		ID: ID(h), Group: group, Topic: h[HeaderTopic], Key: r.Key, Value: r.Value, Headers: h,
		EventID: h[event.HeaderID], EventType: h[event.HeaderType],
		ErrorType: h[HeaderErrorType], Error: h[HeaderError], Cause: Cause(h[HeaderError]), State: Waiting,
		Omitted: h[HeaderOmitted],
	}
	if n, err := strconv.ParseInt(h[HeaderPartition], 10, 32); err == nil {
		l.Partition = int32(n)
	}
	l.Offset, _ = strconv.ParseInt(h[HeaderOffset], 10, 64)
	// A number that does not parse, or that no column takes, stays zero; the header itself is kept.
	if n, err := strconv.ParseInt(h[HeaderRetries], 10, 32); err == nil {
		l.Retries = int(n)
	}
	if n, err := strconv.ParseUint(h[HeaderFailures], 10, 30); err == nil { // its column has room for more to come
		l.Failures = int(n)
	}
	if l.Failures > 1 {
		l.State = FailedAgain
	}
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
	h := make(map[string]string, len(l.Headers)+1)
	maps.Copy(h, l.Headers)
	h[HeaderFailures] = strconv.Itoa(l.Failures + 1)
	return kafka.Record{Topic: RedriveTopic(l.Group), Key: l.Key, Value: l.Value, Headers: h}
}
