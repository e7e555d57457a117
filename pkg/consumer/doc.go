// Package consumer is the one path that every message takes.
//
//	topic ─▶ router ─▶ dead-letter · observe · retry · recover ─▶ decode, check ─▶ batch: one transaction ─▶ ack
//
// A handler is func(ctx, tx, event) error. It reads and writes through tx and publishes through tx; the inbox mark,
// the handler's effect and the messages that it publishes commit in one transaction, or none does. It knows no
// broker, no offset and no retry. A handler that must talk to the outside has two parts (OnCall): the call, before the
// transaction and keyed so that doing it twice is doing it once, and the effect, in the transaction.
//
// Messages that wait at the same moment share a transaction: the inbox in one statement, the handlers one after the
// other, the outbox in one statement, one commit. Nothing waits for more to come: while one transaction is under way the
// next batch gathers, so that batches grow with the load, up to Config.BatchMax, and are of one when there is none. A
// message that fails takes nobody with it, and no attempt is counted but by what a message did in its own transaction, or
// in one that was committed without it. A handler does not know of others; it may be called up to three times in one
// attempt, with nothing left of the calls before. What it must not do is wait: a handler that does keeps its whole batch,
// and those who wait for the next, waiting. That is what OnCall is for.
//
// What handlers are going to ask for can be read for all of a batch in one statement, and written so, without them
// knowing: Prepare, and package database's Table.
//
// What an error means is in its mark (package fault):
//
//   - permanent: the message goes to the group's dead-letter topic at once;
//   - transient, or no mark: it is tried again with exponential backoff and jitter, then dead-lettered;
//   - unavailable: the database or the broker is gone. The message waits, Ready says so, nothing is dead-lettered and
//     no attempt is counted, until the infrastructure is back.
//
// The wait before the next attempt is in memory if it is short and in nobody's way, and otherwise in the database, with the
// key's later messages behind it (package parking). When a message was given up its key goes on; where the handler was
// declared with Blocks, the key waits until the dead letter was redriven and handled, or is discarded.
//
// A record that cannot be decoded, or that breaks its schema, is dead-lettered as the bytes it is.
//
// Deps.Guarantee is the developer's choice for the group, and the subscriber's must be the same:
//
//   - effectively-once, the default, is all of the above.
//   - at-least-once has no inbox: a message whose offset was not committed takes effect again. It is for handlers that
//     may be called twice as well as once, and spares them a row a message. Retries and dead letters are the same.
//   - at-most-once commits the offset before the handler is called, and calls it once: no retry, no waiting for
//     infrastructure, no sharing of transactions. What fails is dead-lettered at once; what was in hand when the process was killed is gone. A dead
//     letter of which nobody knows whether it took effect (a commit whose answer was lost) should be discarded.
//
// With effectively-once the package promises that a message's effect happens once however often the message comes; with
// the first two, that it is acknowledged only after that or after it stands in the dead-letter topic; with all, that a
// message that waits for its next attempt keeps only its own key waiting (package kafka's subscriber sees to that). It
// does not promise that a message is handled soon, nor that handlers of different keys see each other's effects in order.
package consumer
