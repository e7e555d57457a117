// Package inbox is how a consumer knows that it has already done a message.
//
// Mark is called in the transaction that holds the message's effect. It writes the message's id and tells whether that
// was new; a message that was not is skipped. Mark and effect commit together or not at all, so a message whose effect
// failed comes again as new, and one whose acknowledgement was lost comes again as done.
//
// It promises that of several transactions that mark one id for one consumer, at the same time or one after another,
// exactly one that commits sees it as fresh: PostgreSQL makes the second wait for the first at the primary key, SQLite
// runs one after the other. Consumers do not see each other's marks.
//
// It does not promise to remember for ever: Purge forgets what is older than the caller says, which must be longer
// than any message can be late (the topics' retention, and the time that a dead letter may lie). It goes by an index on
// the age, in short transactions until none are left, in any number of replicas at once; with nothing due it is one look
// at the index. The table is as long as what is remembered, whatever came before.
package inbox
