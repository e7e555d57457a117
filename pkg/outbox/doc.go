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
// sends them, and deletes those that the broker acknowledged. A round is one statement, which deletes what the round before
// it sent and reads what is next, and one batch; what nothing comes behind is deleted 50 ms later. On SQLite, which has no
// round trips, it is deleted at once.
//
// It promises:
//
//   - Events and effects commit together, or none does.
//   - Every committed event is sent at least once, with its id; receivers drop doubles (package inbox).
//   - The first deliveries of one key to one topic are in order of commit, with any number of relays, through crashes
//     and failed sends, if transactions that publish under one key exclude each other (they change the same row, or
//     handle the key's messages one at a time). Keys do not wait for each other.
//   - A commit wakes the relay of its process at once. The work of a round does not grow with what was ever sent, nor
//     with what waits behind a key that cannot be sent.
//   - Relays of several replicas share the keys, and one that ends or dies is followed by the others.
//   - Run ends within StopTimeout and two seconds, whatever sender and database do.
//
// It does not promise that an event is sent once, or any order across keys or topics. An event that the broker refuses
// for ever (its topic is gone) is never dropped: its key waits, outbox_oldest_age_seconds grows, and the log says
// which; somebody must make it possible to send, or delete the row.
//
// # Why the order holds
//
// A relay reads rows by one statement in the order of seq, and hands them to a Sender, which promises that of one key and
// topic nothing is sent behind what is not. So a relay sends a row only if every older row of its key and topic was
// deleted, or is in front of it in the batch and was sent. Rows are deleted only after an acknowledgement. So when any
// relay sends a row for the first time, all older ones of its key are in the topic already. Nothing in this depends on
// who holds a lease: those keep doubles rare. And whoever deletes an acknowledged row, and however late, does no harm:
// the DELETE is a statement of its own, under no fence. A walk:
//
//  1. A has read rows 1 and 2 of key k, hands them to its producer, and is suspended.
//  2. Its leases run out. B takes them. Both rows are still in the table, since A did not delete them, so B sends both,
//     deletes them, and sends row 3.
//  3. A wakes. Its producer delivers 1 and 2 now. The topic holds 1 2 3 1 2: the late ones are doubles, and the first
//     deliveries are in order. A deletes rows that are gone, finds that its leases are lost, and stops.
//
// The same holds for an event that a producer delivers after it reported a failure.
//
// # Where a relay looks
//
// seq is given out when a row is inserted, and rows become visible when their transaction commits, so row 8 may be seen
// before row 7. A relay that kept "sent up to 8" would never send 7. What is in the table is unsent, what is sent is
// deleted. But PostgreSQL's index keeps what was deleted until a vacuum, and while an old snapshot is open longer than
// that; a look from the beginning would walk over all of it. So the relay begins below the oldest row that may still be
// sent, which is also below any that may still appear: it knows from the locks on the table which transactions were
// writing when a number had been drawn, and that they have ended (horizon). Once a minute it looks from the beginning.
//
// Keys with a row that could not be sent pause, and are left out of the look. The row itself is tried again, by its seq,
// when the pause has ended, and with it the key goes on. What one look may walk over is bounded; the next begins behind.
// While a transaction that has written to the outbox stays open, that place does not move: then more than 65,536 rows of
// keys that pause hide what is behind them, until it ends.
//
// # Shards and leases
//
// On PostgreSQL there are eight shards, by a hash of the key, and a lease for each: an instant until which its holder
// may send, and a fence, a number that grows with every change of hands. A relay writes a row into the same table, which
// tells the others that it lives. Each takes no more than its fair share, and gives back what is more, between two
// batches, when all that it was told of is deleted. It looks once a Poll, and renews with one statement three times in
// the leases' time, not once a round; whoever holds all shards, alone, reads without asking for them. The database
// computes the hash when a row is read: rows that were written before there were shards belong to one too, the same as
// those that their key gets later. On SQLite, where one process has the file, there is one shard.
package outbox
