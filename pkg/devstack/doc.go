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
// It promises neither speed nor the durability and availability of a real cluster, and there is no access control.
// One stack uses a directory at a time; a second one is refused.
package devstack
