// Package evidence reads what a system has left behind, and names what in it cannot be. It is for a test that broke the
// system while it ran, and then asks from outside whether anything was lost, doubled or turned round.
//
// What is read is plain: a Log (every record of some topics), Tables (outbox, inbox and parked messages of a service's
// database), the Sagas in it, and kafka.GroupLag. What is judged is judged by functions of these alone, so a test can make up
// any evidence. A judgement is a list of sentences, one for each thing that is off; none means that it holds.
//
//	log, err := reader.Read(ctx)
//	wrong := slices.Concat(log.Repeats(), log.Keys(), log.Causes(began), tables.Waiting(), evidence.Behind(lags))
//
// It promises:
//
//   - Repeats: a message that occurs more than once has the same bytes and headers each time.
//   - Keys: records of a key stand in one partition of each topic, so they have an order.
//   - Causes: from every message leads a way back, by causation ids, to something outside that began it, and the whole way
//     has one correlation id.
//   - Handled: a group has marked every message of its topics, and nothing else.
//   - Quiet: while the evidence was gathered, nothing waited and nothing came, provided that the lag was read first and the log
//     last.
//
// It does not know what messages mean; whether a sequence of them is right is for who does (Log.Sequences). Everything is in
// memory: some thousands of stories, not millions.
package evidence
