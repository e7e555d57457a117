// Package replay reads history again: it copies a stretch of a topic to the redrive topic of a consumer group, where
// the group's consumer (package consumer) handles the copies as it handles dead letters that come back, by the handler
// of the topic that they came from.
//
// A copy has its record's key, bytes and headers, and in addition where it stood (original-topic, -partition, -offset,
// -timestamp, as a dead letter says it) and the replay's id (replay-id). The target is a group of its own beside the
// live one, with an empty database, or the live group itself; then replay-inbox says what its inbox makes of a message
// that has been handled: skip drops it, again handles it once more in each replay.
//
// It promises that
//
//   - what a replay covers is settled when it begins: the end of each partition too. It is kept with the replay's id as
//     commits of two consumer groups without members, "replay.<id>" (how far) and "replay.<id>.plan" (what);
//   - each record is copied once, whatever is killed or interrupted in between: copies and position commit in one Kafka
//     transaction (kafka.Transformer). A replay with an id that is known goes on where it stopped; one that is done
//     copies nothing;
//   - copies of one key stay in the order of their records;
//   - Prepare writes nothing.
//
// It does not promise an order between two topics, nor between copies and what the group gets otherwise. Kafka forgets a
// replay offsets.retention.minutes (a week) after it stopped; its id is then refused if half of it is left, and new if
// nothing is.
package replay
