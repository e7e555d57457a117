// Package events has the Go types of every message on Kafka, and checks messages against their JSON Schemas.
//
// It promises:
//   - Each schema in api/schemas has one Go type here that agrees with it field by field: names, types, and a field is
//     omitted when empty exactly if the schema does not require it. A test compares them.
//   - Validate accepts what the schema accepts, unknown fields included, and otherwise names every offending field
//     and what is allowed there. It never repeats a value: messages carry names, addresses and payment tokens. A valid message
//     is mostly accepted by one look at its bytes (package internal/accept); all others the schema library decides.
//   - Topics is what topics.yaml declares, and each message type belongs to exactly one topic of it.
//
// It does not promise that a valid message makes sense (that a total is the sum of its lines): its reader checks that.
package events
