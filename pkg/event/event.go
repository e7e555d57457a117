package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// Headers of the CloudEvents Kafka binary binding (v1.0.2, section 3.2) and of W3C trace context, as they stand in a
// Kafka record and in a Watermill message's metadata.
const (
	HeaderID            = "ce_id"
	HeaderSource        = "ce_source"
	HeaderSpecVersion   = "ce_specversion"
	HeaderType          = "ce_type"
	HeaderTime          = "ce_time"
	HeaderSubject       = "ce_subject"
	HeaderKey           = "ce_partitionkey"
	HeaderCorrelationID = "ce_correlationid"
	HeaderCausationID   = "ce_causationid"
	HeaderContentType   = "content-type"
	HeaderTraceparent   = "traceparent"
	HeaderTracestate    = "tracestate"

	specVersion = "1.0"
	contentType = "application/json"
)

// Event is one message: an event or a command.
type Event struct {
	// ID is unique for ever; a message that is sent again keeps it.
	ID string
	// Type names what happened or what is asked for: "order.created", "payment.charge".
	Type string
	// Source is who says so, a URI reference: "/orderflow/payment".
	Source string
	// Subject is what it is about, usually the key.
	Subject string
	// Key is the Kafka key: messages of one key keep their order.
	Key string
	// Time is when it happened, in UTC.
	Time time.Time
	// CorrelationID is the same for all messages of one story.
	CorrelationID string
	// CausationID is the ID of the message, request or timer that led to this one.
	CausationID string
	// Traceparent and Tracestate carry W3C trace context.
	Traceparent, Tracestate string
	// Data is the JSON body.
	Data json.RawMessage
	// Extra holds headers that are not of the envelope, kept as they came.
	Extra map[string]string
}

// Body is what a message type says of itself, so that it can be published and subscribed to without naming its type
// or topic a second time.
type Body interface {
	// EventType is the CloudEvents type.
	EventType() string
	// EventTopic is the Kafka topic.
	EventTopic() string
}

// Addressed is an event on its way to a topic.
type Addressed struct {
	Topic string
	Event Event
}

// Factory makes events for one source. Its zero fields are not usable; take it from NewFactory or fill all of them.
type Factory struct {
	Source string
	Now    func() time.Time
	NewID  func() string
}

// New makes an event about key with data as its body. Cause and trace come from ctx (see WithCause and
// observability's span context): without a cause the event starts its own story, whose correlation id is the key.
func (f Factory) New(ctx context.Context, typ, key string, data any) (Event, error) {
	body, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", typ, err)
	}
	cause := CauseFrom(ctx)
	e := Event{
		ID: f.NewID(), Type: typ, Source: f.Source, Subject: key, Key: key, Time: f.Now().UTC(),
		CorrelationID: cause.CorrelationID, CausationID: cause.ID, Data: body,
	}
	if e.CorrelationID == "" {
		e.CorrelationID = key
	}
	e.Traceparent, e.Tracestate = traceFrom(ctx)
	return e, nil
}

// Cause is what led to the events made under a context.
type Cause struct {
	// ID is the message's, request's or timer's own id.
	ID string
	// CorrelationID is the story that it belongs to; empty starts a new one.
	CorrelationID string
}

type causeKey struct{}

// WithCause returns a context under which events are caused by c.
func WithCause(ctx context.Context, c Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, c)
}

// CauseFrom returns the cause set by WithCause, or none.
func CauseFrom(ctx context.Context) Cause {
	c, _ := ctx.Value(causeKey{}).(Cause)
	return c
}

// Keys returns the events' keys, in their order.
func Keys(events []Event) []string {
	keys := make([]string, len(events))
	for i, e := range events {
		keys[i] = e.Key
	}
	return keys
}

// Headers returns the envelope as Kafka headers, Extra included.
func (e Event) Headers() map[string]string {
	h := make(map[string]string, 12+len(e.Extra))
	maps.Insert(h, e.AllHeaders())
	return h
}

// AllHeaders yields what Headers returns, always in the same order: the envelope, then Extra, each sorted by name.
func (e Event) AllHeaders() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		attributes := [...]struct{ name, value string }{
			{HeaderCausationID, e.CausationID},
			{HeaderCorrelationID, e.CorrelationID},
			{HeaderID, e.ID},
			{HeaderKey, e.Key},
			{HeaderSource, e.Source},
			{HeaderSpecVersion, specVersion},
			{HeaderSubject, e.Subject},
			{HeaderTime, e.Time.UTC().Format(time.RFC3339Nano)},
			{HeaderType, e.Type},
			{HeaderContentType, contentType},
			{HeaderTraceparent, e.Traceparent},
			{HeaderTracestate, e.Tracestate},
		}
		for _, a := range attributes {
			if a.value != "" && !yield(a.name, a.value) {
				return
			}
		}
		if len(e.Extra) == 0 {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(e.Extra)) {
			// What the envelope says itself goes before.
			said := false
			for _, a := range attributes {
				said = said || a.name == name && a.value != ""
			}
			if !said && !yield(name, e.Extra[name]) {
				return
			}
		}
	}
}

// FromHeaders is the inverse of Headers. It reports every attribute that is missing or malformed in one error.
func FromHeaders(h map[string]string, data []byte) (Event, error) {
	e := Event{
		ID: h[HeaderID], Type: h[HeaderType], Source: h[HeaderSource], Subject: h[HeaderSubject], Key: h[HeaderKey],
		CorrelationID: h[HeaderCorrelationID], CausationID: h[HeaderCausationID],
		Traceparent: h[HeaderTraceparent], Tracestate: h[HeaderTracestate], Data: data,
	}
	var errs []string
	for _, required := range []string{HeaderID, HeaderSource, HeaderType, HeaderTime, HeaderKey} {
		if h[required] == "" {
			errs = append(errs, fmt.Sprintf("header %s is missing", required))
		}
	}
	if v := h[HeaderSpecVersion]; v != specVersion {
		errs = append(errs, fmt.Sprintf("header %s is %q, must be %q", HeaderSpecVersion, v, specVersion))
	}
	if v := h[HeaderTime]; v != "" {
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			errs = append(errs, fmt.Sprintf("header %s is %q, must be an RFC 3339 time", HeaderTime, v))
		}
		e.Time = at.UTC()
	}
	if len(errs) > 0 {
		return Event{}, errors.New(strings.Join(errs, "; "))
	}
	for name, value := range h {
		if !envelope[name] {
			if e.Extra == nil {
				e.Extra = map[string]string{}
			}
			e.Extra[name] = value
		}
	}
	return e, nil
}

var envelope = map[string]bool{
	HeaderID: true, HeaderSource: true, HeaderSpecVersion: true, HeaderType: true, HeaderTime: true,
	HeaderSubject: true, HeaderKey: true, HeaderCorrelationID: true, HeaderCausationID: true,
	HeaderContentType: true, HeaderTraceparent: true, HeaderTracestate: true,
}

// Message returns e as a Watermill message: headers as metadata, the event's id as UUID.
func (e Event) Message() *message.Message {
	m := message.NewMessage(e.ID, message.Payload(e.Data))
	m.Metadata = e.Headers()
	return m
}

// FromMessage is the inverse of Message.
func FromMessage(m *message.Message) (Event, error) {
	return FromHeaders(m.Metadata, m.Payload)
}

// NewFactory returns a Factory with the system clock and time-ordered random ids (UUIDv7).
func NewFactory(source string) Factory {
	return Factory{
		Source: source,
		Now:    failpoint.Now,
		NewID:  func() string { return uuid.Must(uuid.NewV7()).String() },
	}
}
