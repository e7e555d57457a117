// Package queue is a work queue in a Redis stream, on watermill-redisstream: any number of processes share the entries
// of one consumer group, each entry is worked by one at a time and acknowledged when it is done.
//
// watermill-redisstream is used with its weaknesses dealt with, each in one place:
//
//   - it trims by length, unread or not: here it does not trim, and Trim removes what every group has acknowledged;
//   - an entry that it cannot read stops the subscription: Codec reads any entry, and marks one that is none of ours;
//   - Close closes the client that it was given: it gets one whose Close does nothing;
//   - the handler does not learn the entry's id, and an entry that is worked longer than MaxIdleTime is claimed away
//     from its worker: the client wrapped in leases knows what is in hand and keeps it from going idle, so that the
//     takeover from a killed process can be quick;
//   - its first read blocks for ever, and a lost consumer group (Redis came back empty) is an error for ever: reads are
//     bounded, and a subscription that ends is begun again.
//
// It promises that an entry is delivered until it is acknowledged, by another process within Takeover plus a second when
// its own was killed. It may be delivered twice: the handler must know what it has done. It keeps no order.
package queue
