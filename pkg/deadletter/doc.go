// Package deadletter is what becomes of a message that could not be handled.
//
// A consumer group that gives a message up writes it to its dead-letter topic (Topic), bytes and key as they came,
// with headers that say where it was, what went wrong and how often it was tried. The group's own service reads that
// topic into a table (Store), where each letter has one identity, the place of the original record, and one state:
//
//	waiting ──redrive──▶ redriving ──handled──▶ redriven
//	   │                  ▲    │
//	   │            redrive    failed again
//	   │                  │    ▼
//	   ├───discard───  failed_again
//	   ▼
//	discarded
//
// Redrive hands the letter to the group that failed and to no other, through that group's redrive topic
// (RedriveTopic), with the id, key and bytes it had, or with the body that an operator put in their place. The inbox
// drops a second delivery, and the transaction of the handler that succeeded also writes the state redriven, so the state
// never says more than what happened. Store.settle is the one place where a letter becomes redriven or discarded, and
// OnSettled hears of it in the same transaction.
//
// Many letters are redriven or discarded by a Job: what a filter matches when it is begun is written down, and worked off by
// Run in whatever replicas there are, in batches of up to 256 and with no more than 512 under way. A canary goes first if one
// is wanted, a rate is kept, and the job stops when more letters failed again than may. One job is at work at a time.
//
// The redrive topic is also where history comes from that is read again (package replay): copies of records that say
// where they stood, as letters do, and which replay they belong to (HeaderReplay).
//
// A record that does not fit into the topic with these headers is written without its value (Shortened): it is listed,
// says where the record stands, and can only be discarded.
//
// It promises:
//
//   - A letter in the topic comes to the table at least once and is one row however often it comes. Each of its failures
//     counts once, in the order of its redrives and not of anybody's clock.
//   - Every verb on a letter may be called twice. A job takes each letter at most once; its record may be sent twice when a
//     process dies, and the group's inbox drops the second.
//   - A job sends the letters of one key in the order of their records in a topic. Between topics it goes by the records' time.
//   - Who did what, when and why is in the audit trail, written in the transaction that did it, with the bytes that an edit
//     replaced, and the failure that the letter had then: the letter has only its last one.
//   - A page of letters is a walk along an index, whatever is asked for; no list reads the topic. A search for a text looks at
//     each letter that the rest of the filter leaves.
//   - A table that was lost, or restored from a backup, is made up from the topic at the next start (Index), by the table's own
//     note of how far it knows the topic.
//
// Only the table knows what operators did: which letters were redriven or discarded, by whom and why, edits whose letter
// has not failed again, jobs, and letters that stand in no topic (those of a work queue). After its loss a letter
// that was redriven waits again; redriving it has no second effect while the inbox remembers the message.
//
// It does not promise the order of a key between redriven and live messages; that is kept where a handler has its key wait
// for the letter (consumer.Blocks, package parking), which OnSettled is for. Letters that are settled are forgotten after
// a time (Purge); those that are not stay for ever.
package deadletter
