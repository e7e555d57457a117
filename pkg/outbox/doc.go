// Package outbox publishes events in the caller's transaction, and carries them to the broker in order.
//
//	err := box.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
//		if _, err := tx.ExecContext(ctx, `UPDATE orders SET state = 'confirmed' WHERE id = $1`, id); err != nil {
//			return err
//		}
//		_, err := tx.Publish(ctx, id, OrderConfirmed{OrderID: id})
//		return err
//	})
//
// What is published becomes rows of the table outbox in the same transaction. A Relay reads rows that are committed,
// sends them, and deletes those that the broker acknowledged.
//
// It promises:
//
//   - Events and effects commit together, or none does.
//   - Every committed event is sent at least once, with its id; receivers drop doubles (package inbox).
//   - The first deliveries of one key to one topic are in order of commit, with any number of relays, through crashes
//     and failed sends, if transactions that publish under one key exclude each other (they change the same row, or
//     handle the key's messages one at a time). Keys do not wait for each other.
//   - A commit wakes the relay of its process at once. The work of a round does not grow with what was ever sent.
//   - Run ends within StopTimeout and two seconds, whatever sender and database do.
//
// It does not promise that an event is sent once, or any order across keys or topics. An event that the broker refuses
// for ever (its topic is gone) is never dropped: its key waits, outbox_oldest_age_seconds grows, and the log says
// which; somebody must make it possible to send, or delete the row.
//
// # Why no last id
//
// seq is given out when a row is inserted, and rows become visible when their transaction commits, so row 8 may be seen
// before row 7. A relay that kept "sent up to 8" would never send 7. This one keeps nothing: what is in the table is
// unsent, what is sent is deleted. Rows of one key have their order all the same: their transactions follow one another.
//
// # Why one row a key in a batch
//
// If rows 1 and 2 of a key went in one batch, 1 could fail and 2 arrive. So a batch holds the oldest row of each key and
// topic only, and the next oldest goes in the next batch, after the first was acknowledged and deleted.
//
// # Leases, and why losing one is harmless
//
// One relay sends at a time: it holds a row in outbox_lease with an instant until which it may, and a fence, a number
// that grows with every change of hands. It deletes what was acknowledged in a transaction that first renews the lease
// under its fence, which locks the lease's row: a relay that has been deposed finds another fence, deletes nothing and
// stops. Clocks that differ, or a process that was suspended, can still make two relays send at once. A walk:
//
//  1. A holds fence 1, has read row 1 of key k, hands it to its producer, and is suspended.
//  2. The lease runs out. B takes it with fence 2. Row 1 is still in the table, since A did not delete it, so B sends
//     row 1, deletes it, and sends row 2.
//  3. A wakes. Its producer delivers row 1 now, after row 2. The topic holds 1 2 1: the late one is a double, and the
//     first deliveries are in order. A finds fence 2, and stops without deleting anything.
//
// It is always so. A relay sends a row only if it read it as the oldest of its key and topic, that is, when every older
// one had been deleted; rows are deleted only after an acknowledgement; so when any relay sends a row for the first time,
// all older ones of its key are in the topic already. Whatever arrives late from a deposed relay was unacknowledged to
// it and therefore still in the table when the next one began: the next one sent it in order, or found it acknowledged.
// The lease keeps doubles rare; order does not depend on it. The same holds for an event that a producer delivers after
// it reported a failure.
package outbox
