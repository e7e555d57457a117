// Package kafka speaks Kafka with Watermill's interfaces on the outside: a publisher that sends batches, a
// subscriber that handles many messages of one partition at a time, a marshaler that loses nothing, and the few
// questions that are asked of a cluster (topics, lag, is it there).
//
// The Subscriber is one member of its consumer group, whatever the number of topics. It promises that
//
//   - messages of one key are handed out in the log's order, the next only after the one before was acknowledged;
//   - messages of other keys do not wait for them, even in one partition, up to MaxInFlight messages a partition;
//   - an offset is committed only up to the lowest message of its partition that is not acknowledged;
//   - a negative acknowledgement hands the same message out again, still ahead of the later ones of its key;
//   - when a partition is taken away, or on Close, nothing more is handed out, what is in hand may finish within
//     DrainTimeout, and what finished is committed before the next member starts;
//   - no record stops a partition: any bytes, any headers, with or without key and value, reach the channel.
//
// A message may be delivered more than once: after a crash, and after a partition moved while a handler was slower
// than DrainTimeout. Messages after the lowest unfinished one come again too, though they had been acknowledged.
//
// The Publisher promises that what it reports as sent is on all in-sync replicas, and that sends to one partition stay
// in the order in which they were made. It does not promise that what it reports as failed is not in the log.
//
// Both connect when they are first used and again after the cluster was away. No topic is created because somebody used
// it: only Admin.EnsureTopics and Admin.Apply create topics, when they are told to.
//
// Topics are declared. Plan says how a cluster differs from what is declared, and Apply changes that, all of it or
// nothing. Neither ever takes away: records, copies, partitions. Partitions are added only by who says that the order of
// a key's records may suffer or, by Undrained, cannot.
package kafka
