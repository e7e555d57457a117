// Package devstack is Kafka and Redis in one process, for development and tests: real protocols on real ports of the
// loopback interface, one node each, nothing to install. Services speak to it as they speak to real servers.
//
// Kafka is franz-go's kfake. With a directory, topics, records, groups and their offsets are kept across restarts.
// Records are written to the operating system with every produce but not synced to disk: killing a service, or the
// stack, loses nothing that was acknowledged; a crash of the machine may.
//
// Redis is miniredis. Its content is saved to a file once a second and on Stop, and restored on Start. Kept are
// strings, hashes, lists, sets, sorted sets and streams of database 0, with the keys' expiries; of streams the entries
// with their ids, the consumer groups with their positions, and the pending entries with consumer, idle time and
// delivery count. Not kept: expiries of single hash fields, HyperLogLogs, scripts, other databases, channels, the last id
// of a stream whose newest entries were deleted, and, when the stack itself is killed, what was written in the last
// second. Keys expire by the wall clock, also while the stack is down.
//
// # Where kfake differs from Apache Kafka
//
//   - One node: acknowledgements of the leader and of all replicas are the same, and no leader ever changes.
//   - A transaction that nobody ends is aborted when its timeout is over. Apache Kafka looks every ten seconds.
//   - While a transaction is committing an offset, read_committed members of its group wait for the offsets of all
//     partitions; with Apache Kafka for that partition's.
//   - A group that never was has no offsets: asking for them is an error (GROUP_ID_NOT_FOUND). Apache Kafka answers that
//     there are none.
//   - A header without a name (null, not empty) is taken. Apache Kafka refuses the batch.
//   - Partitions are reassigned in name only; Apache Kafka copies.
//
// # Where miniredis differs from Redis
//
//   - Time stands still unless it is told to go on, for which there is a clock here.
//   - XCLAIM takes an entry however short a time it has been idle, so package queue keeps its own account of what its
//     workers have in hand.
//   - LIMIT on trimming is ignored, and XGROUP SETID is missing; nothing here uses them.
//   - A restart breaks reads that wait.
//
// It promises neither speed nor the durability and availability of a real cluster, and there is no access control.
// One stack uses a directory at a time; a second one is refused.
package devstack
