// Package feed is a bounded stream a key in Redis that clients follow, and come back to, without missing anything
// unawares. The database behind it numbers the entries of each key 1, 2, 3 without a gap, and an entry's id in Redis is
// "<number>-0". That carries everything here:
//
//   - Redis refuses an id that is not above the last, so writing an entry again after a crash changes nothing;
//   - a number that does not follow the one before says that something is missing (the stream was trimmed, expired or
//     lost), and the reader is told so by a Reset, never by silence;
//   - what a reader gets twice, from the replay and from the live reader, is told apart by number.
//
// A stream is bounded in length and expires; the database has what is older. A Redis key that holds something else
// (entries by another hand, or the numbers of a database that was replaced) is started anew.
//
// All readers of a process share one blocking XREAD (Hub). It promises that a reader who resumes with the last id it
// has seen gets every later entry once and in order, or a Reset. It does not promise to keep a reader that does not
// read: that one is let go, and resumes. It keeps no data of its own: what Redis loses is in the database or gone.
package feed
