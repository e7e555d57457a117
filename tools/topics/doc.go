// Package topics reads and writes Kafka records from outside the services: one order's whole story, found by its key in
// every topic, and records put straight onto a partition, good or bad.
//
// It promises that a story holds every record with the key that stood in the topics when it was asked for, causes
// before effects. It joins no consumer group and commits nothing.
package topics
