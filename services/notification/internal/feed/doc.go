// Package feed is a customer's notifications as a Redis stream, "notifications:<customer>", and how clients follow it.
//
// An entry's id is "<number>-0", and a customer's numbers are 1, 2, 3 without a gap. That carries everything here:
//
//   - Redis refuses an id that is not above the last, so writing an entry again after a crash changes nothing;
//   - a number that does not follow the one before says that something is missing (the stream was trimmed, expired or
//     lost), and the reader is told so by a Reset, never by silence;
//   - what a reader gets twice, from the replay and from the live reader, is told apart by number.
//
// A stream is bounded in length and expires; the database has what is older. A key that holds something else (entries
// by another hand, or the numbers of a database that was replaced) is started anew.
//
// All readers of a process share one blocking XREAD (Hub). It promises that a reader who resumes with the last id it
// has seen gets every later notification once and in order, or a Reset. It does not promise to keep a reader that
// does not read: that one is let go, and resumes.
package feed
