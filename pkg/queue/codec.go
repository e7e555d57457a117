package queue

import (
	"encoding/json"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Fields of an entry. All are text that a person can read in redis-cli.
const (
	fieldID      = "id"
	fieldHeaders = "headers"
	fieldPayload = "payload"
)

// HeaderForeign is set on messages made of entries that are not the queue's own; it holds what is wrong. The payload is
// then the whole entry as JSON.
const HeaderForeign = "foreign"

// HeaderEntry is the stream id of the entry that a message came from.
const HeaderEntry = "entry"

// Codec is watermill-redisstream's marshaller and unmarshaller. Unmarshal never fails: an error would stop the
// subscription.
type Codec struct{}

// Marshal implements redisstream.Marshaller.
func (Codec) Marshal(_ string, msg *message.Message) (map[string]any, error) {
	headers, err := json.Marshal(msg.Metadata)
	if err != nil {
		return nil, fmt.Errorf("encode headers of %s: %w", msg.UUID, err)
	}
	return map[string]any{fieldID: msg.UUID, fieldHeaders: headers, fieldPayload: []byte(msg.Payload)}, nil
}

// Unmarshal implements redisstream.Unmarshaller.
func (Codec) Unmarshal(values map[string]any) (*message.Message, error) {
	text := func(name string) string {
		s, _ := values[name].(string)
		return s
	}
	msg := message.NewMessage(text(fieldID), []byte(text(fieldPayload)))
	wrong := ""
	if msg.UUID == "" {
		wrong = "the field id is missing"
	}
	if err := json.Unmarshal([]byte(text(fieldHeaders)), &msg.Metadata); err != nil {
		wrong = "the field headers is not a JSON object of texts"
	}
	// An object may also be null or half read.
	if msg.Metadata == nil || wrong != "" {
		msg.Metadata = message.Metadata{}
	}
	entry := text(HeaderEntry)
	if wrong != "" {
		delete(values, HeaderEntry)
		// Redis values are strings: they always encode.
		msg.Payload, _ = json.Marshal(values)
		msg.Metadata.Set(HeaderForeign, wrong)
	}
	msg.Metadata.Set(HeaderEntry, entry)
	return msg, nil
}
