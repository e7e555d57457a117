// Package event is the envelope of every message: CloudEvents 1.0 in Kafka's binary mode, with correlation,
// causation and W3C trace context.
//
// An Event's identity is its ID (header ce_id), never Watermill's UUID. Its Key is the Kafka key and decides order:
// events with one key are handled in order. CorrelationID names the whole story that an event belongs to, CausationID
// the message or request that led to it, so a story can be read from the topics alone.
//
// It promises that Decode(Encode(e)) is e, that headers it does not know are kept, and that Decode refuses an
// envelope without the attributes that CloudEvents requires, naming each. It does not look into Data.
package event
