// Package audit says whether a system that was broken while it ran kept every promise, from what can be seen of it from
// outside: REST, every record of its topics, the customers' feeds in Redis, and the tables of the services' databases.
//
// Package books compares sums, and sums can cancel out. This package looks at each order, message and notification by itself:
//
//   - Every POST that was answered 202 is an order, every order is of a POST, and one Idempotency-Key made one order.
//   - What the participants hold of an order, and the provider and the carrier outside, is what its end says.
//   - Its saga has ended, and its commands, answers and events are those of the saga, each once, in an order that the saga
//     allows.
//   - Its customer was told of each transition once; a customer's notifications are numbered 1, 2, 3 in the database, over REST
//     and in the feed.
//   - Every message is whole, has the same bytes wherever it stands, and comes of a request by causes without a gap.
//   - Every group has handled every message that it receives; nothing waits in an outbox, parked or in a topic.
//
// Settle gathers an Evidence and judges it, until everything holds. The evidence is gathered in one place and is plain data;
// Judge is a function of it alone. A finding names what is off: the order, the message, what was seen and what must be.
package audit
