// Package kafka speaks Kafka with Watermill's interfaces on the outside: a publisher that sends batches, a
// subscriber that handles many messages of one partition at a time, a marshaler that loses nothing, and the few
// questions that are asked of a cluster (topics, lag, is it there). What becomes of a message when something fails is
// chosen by a Guarantee; docs/DELIVERY.md has a table, and a test for each cell.
//
// The Subscriber is one member of its consumer group, whatever the number of topics. It promises that
//
//   - messages of one key are handed out in the log's order, the next only after the one before was acknowledged;
//   - messages of other keys do not wait for them, even in one partition, up to MaxInFlight messages a partition; with a
//     Parking that has room, those that wait for their next attempt, and those behind them, are not among these;
//   - an offset is committed only up to the lowest message of its partition that is neither acknowledged nor parked;
//   - a negative acknowledgement hands the same message out again, still ahead of the later ones of its key;
//   - when a partition is taken away, or on Close, nothing more is handed out, what is in hand may finish within
//     DrainTimeout, and what finished is committed before the next member starts;
//   - no record stops a partition: any bytes, any headers, with or without key and value, reach the channel;
//   - what a request costs does not grow with the partitions that nothing comes to.
//
// What is parked of a partition is handed out by whoever has the partition, as it becomes due, each key's messages in the
// log's order and before all later ones. Memory holds the names of the keys, and none of their messages. Of what is not parked
// it holds MaxInFlightBytes over all partitions, about 1 MiB a partition that was fetched ahead, and a request's 16 MiB a broker;
// a message that is larger than its partition's share comes on top.
//
// A message may be delivered more than once: after a crash, and after a partition moved while a handler was slower
// than DrainTimeout. Messages after the lowest unfinished one come again too, though they had been acknowledged.
//
// With AtMostOnce the third, the fourth and the fifth are others: an offset is committed before its message is handed
// out; a message is handed out once, whatever the answer; and what was committed is still handed out, within
// DrainTimeout, when a partition is taken away or on Close. It does not promise that a message is handed out: a process
// that is killed loses up to twice MaxInFlight messages a partition.
//
// The Publisher promises that
//
//   - what it reports as sent is on all in-sync replicas, and in the log once, unless the cluster forgot its producer;
//   - of one batch's events of a topic and key, when one is not sent, none behind it is sent either;
//   - sends to one partition stay in the order in which they were made, for a caller that sends what failed before what
//     comes behind it: the first copies of all records are in that order;
//   - a batch is one request to each broker that leads one of its partitions, and no record waits for others to come. Only
//     a partition's share that is larger than 1 MiB, or than its topic takes, is split;
//   - a partition in trouble keeps no other from being sent, and a record in error none of another key.
//
// It does not promise that what it reports as failed is not in the log: it may be there, also a moment later, and a record
// that is sent again is then there twice. With AtLeastOnce what it reports as sent may be there twice; with AtMostOnce it
// was sent once, its leader had it, and it is lost with that leader if no other replica was in time. What waits is bounded
// by its callers: each waits for its batch, and takes it back when it stops waiting.
//
// The Transformer consumes, transforms and produces. It promises that
//
//   - what became of a batch of records, and the note that the batch was read, commit in one Kafka transaction or not at
//     all: a read_committed reader of the output sees every record's outcome once, whatever is killed, refused or taken
//     away in between. All consumers of this package read committed records only (Config.Sarama).
//   - no record is skipped: what fails is tried again, and what can never succeed ends Run and is left unread;
//   - the outcome keeps the order of its input partition, in each output partition;
//   - a transaction that a killed process left open is aborted when the partition has its next owner, or after
//     TransactionTimeout. Only if it was killed while it committed does the next owner wait for that timeout.
//
// It does not promise that fn is called once, nor anything about readers that read uncommitted records, nor about
// effects outside Kafka. Its transactions leave markers in the log, which take offsets: the lag of a group that has read
// all of such a topic may stay at one a partition. A cluster of one node wants transaction.state.log.replication.factor
// and transaction.state.log.min.isr at 1. Where the cluster has access control, the transactional ids
// "<group>/<topic>/<partition>" need Write and Describe, by the prefix "<group>/".
//
// All connect when they are first used and again after the cluster was away. No topic is created because somebody used
// it: only Admin.EnsureTopics and Admin.Apply create topics, when they are told to.
//
// Topics are declared. Plan says how a cluster differs from what is declared, and Apply changes that, all of it or
// nothing. Neither ever takes away: records, copies, partitions. Partitions are added only by who says that the order of
// a key's records may suffer or, by Undrained, cannot.
package kafka
