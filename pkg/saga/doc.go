// Package saga carries work through several participants, each with a database of its own, so that in the end either
// all of it is done or none of it stands.
//
// # The model
//
// A Definition lists steps in order. A saga does them one at a time: it sends Do for a step, waits for the answer, and
// goes on. When a step fails, stays silent beyond its deadline, or somebody cancels, the saga turns round and undoes
// what was done in reverse, one step at a time, waiting for each answer.
//
//	          Done of the last step
//	running ─────────────────────────▶ completed
//	   │ Failed, deadline, Cancel
//	   ▼           Undone of the first step
//	compensating ─────────────────────▶ compensated
//	   │ ▲                                   ▲
//	   │ └──────────── Undone ───────────────┤
//	   ▼ MaxUndoAttempts unanswered          │
//	compensation_failed ─────────────────────┘
//
//	step:  pending ─▶ doing ─▶ done ──▶ undoing ─▶ undone
//	          │         ├────────────────▲  └────▶ undo_skipped, at an operator's word
//	          ▼         │                   deadline or Cancel: its outcome is unknown
//	       skipped      └─▶ failed          it did nothing, so it is not undone
//
// # A decision
//
// Decide is the whole of it: a pure function from a definition, a state and an input to the next state and the commands
// to send. Time comes in with the input; nothing is read and nothing is written. Store.Apply wraps it: load the row
// under lock, decide under the definition version that the saga was started with, save. The caller turns the commands
// into messages in the same transaction, through its outbox, so that a decision and its messages are committed
// together or not at all:
//
//	s, commands, err := store.Apply(ctx, tx.Tx, id, saga.Reply{At: tx.Now(), Step: "second", Outcome: saga.Done, MessageID: e.ID})
//	for _, c := range commands { … tx.Publish(ctx, id, message(s, c)) … }
//
// # Deadlines
//
// Timers find the rows whose deadline has passed, in as many replicas as there are; the row lock and the check of the
// deadline in Decide make each deadline fire once. Deadlines are stored with the saga, so a restart loses none.
//
// A deadline is for who is silent, not for who is behind. Timers therefore ask TimersConfig.Settled up to when
// deadlines count; app.Settled answers that from what all replicas see alike, the groups' commits and the outbox:
//
//  1. At a look it notes the end of each participant's command partitions. What is in the outbox by then, and not yet
//     sent, holds the instant of the note back.
//  2. When the participants have handled all that was noted, and one look later (their own outboxes send meanwhile),
//     it notes the end of the answers' partitions.
//  3. When those are handled too, deadlines count up to the instant of the first note.
//
// So after an outage, of the broker, of the service or of everything, nothing times out whose command or answer
// stands in a queue, however long the queue is, as long as it moves. That is the bound: a partition whose group has
// not moved for the patience (the step's deadline for participants, a minute for the service's own answers) holds
// nothing up. A participant that is down or hangs is known to stand still when the deadline of what it was sent
// passes, and the deadline fires then. When nothing waits this makes a deadline late by two or three looks, of at
// most a second. An instant that was not seen, because the process did not run or the broker did not answer, is no
// time in which anybody stood still; and who waits after it has 15 s to come back, which is more than a group takes
// to notice that a member died.
//
// A queue that moves may have put an answer aside, parked behind one that failed or is a dead letter. So the timers also
// ask TimersConfig.Waiting which of the due sagas have messages parked at their own service, and leave those alone for
// as long: where an operator must see to a dead letter first, for as long as that takes.
//
// It does not see a participant's outbox that stands still while its group goes on, nor a command that is parked at its
// participant: those answers are late, and undone.
//
// # Operators
//
// An Intervention is an operator's word, with an actor, a reason and the version of the saga that was seen: retry
// sends what is awaited again, skip goes on without undoing a step, compensate turns a running saga round. It is
// decided like any other input, and so under lock, in one transaction with its commands and its line in the journal.
// A word on a version that is past is refused. One that was taken is known by its verb and version: it changes
// nothing when it comes again. Offers tells what could be done with a saga as it stands, by trying it.
//
// # Versions
//
// A saga ends under the definition that it was started with, and the store holds all of them that may still run. Only a
// Rule moves sagas to a later version, by name: those that are running, and have not come to what the versions differ
// in, with the next input that changes them. A step's name means its messages, so what was begun is never another's. An
// input for a saga of a version that this process does not know waits for one that does. Golden histories (package sagatest) of all
// versions are played at every test run, and a version without one is an error. Stored states of earlier builds are
// in testdata/stored.
//
// # What crosses
//
//   - An answer that comes twice changes nothing.
//   - Done or Failed of a step that was given up (deadline, cancel) is late: it is journaled once a step and decides
//     nothing. Undo was sent already, it covers either case, and only Undone is awaited.
//   - An answer after its deadline but before the deadline was taken up counts: nobody has decided otherwise.
//   - A cancel while the saga runs gives up the step in flight, as a deadline does. A cancel while it is being undone,
//     or has been, is accepted and changes nothing, also the reason. A cancel of a completed saga is ErrTooLate.
//   - Undo without an answer is sent again, each time after twice the wait. After MaxUndoAttempts the saga is
//     CompensationFailed: a state with its cause in Trouble, that keeps no timer and blocks no other saga. A late
//     Undone takes it on from where it stopped, and so do an operator's retry and skip. The gauge
//     sagas_compensation_failed counts them (Store.Observe).
//   - An answer to what was never asked is journaled once a step and ignored. An answer of an unknown step is refused.
//
// # Promises
//
//   - Do of a step is sent at most once, an operator's retries apart, and only after every earlier step is done.
//   - Undo of a step is sent only if its Do was, and only when every later step is undone, failed, was not begun, or
//     was skipped by an operator.
//   - Once a saga is compensating it never completes; once it has ended it never changes (its journal may).
//   - With participants as below, a saga that ended is completed with every effect there, or compensated with every
//     effect undone exactly once, but where an operator had that skipped. sagatest.Property holds Decide to that.
//   - Exactly one answer is awaited in every state but the ends; it has a deadline in all but CompensationFailed.
//   - A state's size is bounded: steps, journal entries and texts from outside are.
//
// # What participants must do
//
//   - Do at most once for a saga, whatever comes twice, and then answer the same again.
//   - Answer Failed only when there is no effect and will be none. Who does not know does not answer.
//   - On Undo, take the effect back if it is there, in any case refuse a Do that comes later (a tombstone), and answer
//     Undone, again for every Undo: they are separate messages.
//
// # What it does not do
//
// It sends no messages and knows no broker. It does not run steps in parallel, and does not repeat a Do by itself: that
// is the messages' own delivery. It isolates nothing: others see a step's effect before the saga has ended. It does not
// notice that a participant broke its word.
package saga
