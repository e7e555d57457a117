// Package deadletter is what becomes of a message that could not be handled.
//
// A consumer group that gives a message up writes it to its dead-letter topic (Topic), bytes and key as they came,
// with headers that say where it was, what went wrong and how often it was tried. The group's own service reads that
// topic into a table (Store), where each letter has one identity, the place of the original record, and one state:
//
//	waiting ──redrive──▶ redriving ──handled──▶ redriven
//	   │  ▲                  │
//	   │  └───failed again───┘
//	   └──discard──▶ discarded
//
// Redrive hands the letter to the group that failed and to no other, through that group's redrive topic
// (RedriveTopic), with the id, key and bytes it had. The inbox drops a second delivery, and the transaction of the
// handler that succeeds also writes the state redriven, so the state never says more than what happened.
//
// The redrive topic is also where history comes from that is read again (package replay): copies of records that say
// where they stood, as letters do, and which replay they belong to (HeaderReplay).
//
// A record that does not fit into the topic with these headers is written without its value (Shortened): it is listed,
// says where the record stands, and can only be discarded.
//
// It promises that a letter in the topic comes to the table at least once and is one row however often it comes, that
// every verb may be called twice, and that the table can be rebuilt from the topic (states of redriven and discarded
// letters excepted, which only the table knows). It does not promise the order of a key between redriven and live
// messages; that is kept where a handler has its key wait for the letter (consumer.Blocks, package parking), which
// OnSettled is for.
package deadletter
