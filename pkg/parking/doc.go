// Package parking keeps messages that wait in the service's database, so that a key in trouble delays no other.
//
// A message that fails is tried again after a while, and the later ones of its key must not overtake it. In memory all of
// them would hold places that other keys want, and the offset of their partition back. So package kafka's subscriber puts
// them into this table, and the partition goes on:
//
//	log ─▶ handler ──fails──▶ parked ──due──▶ handler ─▶ … ─▶ done: removed, the key's next
//	  └─▶ later ones of the key ──▲                    └────▶ given up: a dead letter, and
//	                                                            open: removed, the key's next
//	                                                            blocked: stays, and the key with it
//
// A key whose handler blocks (consumer.Blocks) waits, in all partitions of its group, until the dead letter has been
// handled or is discarded: the transaction that does so calls Release. Then its messages go on in their order.
//
// What is parked of a partition belongs to the member that has the partition: it alone adds, tries and removes, because
// it alone knows what comes next from the log, so the order needs no lock and no lease of its own. Nothing of it is lost
// with the member: the next one loads what is parked before it hands anything out.
//
// It promises that a message which was parked is there until it was handled, given up or let go; that the first messages
// of a key come first; and that a table which cannot be written keeps its messages where they are, unacknowledged.
// Nothing is asked of the database for a message of a key that is not parked: Held answers from memory, which is read
// again once a second. So a partition that another process has may go on with a key for that long after it was blocked;
// messages of different partitions have no order among each other.
//
// The table is as long as SubscriberConfig.ParkedMax allows, a partition. All that waits counts: messages that are tried again,
// those that block, and those behind either. When as many are parked, the next ones that have to wait keep their places in
// memory, a message that is to become a dead letter for which its key waits among them; its letter is written when there is
// room. Other keys go on with the places that are left. When there are none, that partition stands still until fewer are
// parked, and no other does: the process is ready, and nothing is lost.
//
// Keys and Key tell an operator what waits, why and since when (Mount); they change nothing. Waiting tells it of some
// keys, for who must know whether something of them is still to be handled.
package parking
