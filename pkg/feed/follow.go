package feed

import (
	"context"
	"time"
)

// replayCount is how many entries one XRANGE of a replay returns.
const replayCount = 200

// recheck is how often a reader whose entries are on their way asks whether they still are.
const recheck = time.Second

// Known is what the database says of a stream's numbers.
type Known interface {
	// Newest returns the highest number that was given, 0 for none, and whether all up to it have been written to the
	// stream (none waits on its way there).
	Newest(ctx context.Context, key string) (newest int64, written bool, err error)
}

// Reset says that what follows After is not all there.
type Reset struct {
	// After is where the reader was.
	After int64
	// Position is where it goes on: the next entry's number is above it.
	Position int64
}

// Follower is one reader on its way through a stream.
type Follower struct {
	hub    *Hub
	key    string
	reader *reader

	newest      int64
	written     bool
	first, last int64
	// position is the number up to which the reader has everything, or has been told what it has not.
	position int64
	// ahead: the reader names a number that was never given.
	ahead bool
}

// Now asks Follow for what comes from now on.
const Now int64 = -1

// Follow starts a reader behind the entry of number after. Close it.
func (h *Hub) Follow(ctx context.Context, key string, after int64) (*Follower, error) {
	f := &Follower{hub: h, key: key, position: after}
	// The order matters: what the database has given and written when it is asked is in Redis afterwards, or lost.
	var err error
	if f.newest, f.written, err = h.known.Newest(ctx, key); err != nil {
		return nil, err
	}
	if f.first, f.last, err = h.feed.bounds(ctx, key); err != nil {
		return nil, err
	}
	if after == Now {
		// Just as far as a list out of the database would be, so that the two fit without a gap.
		f.position = f.newest
	}
	f.ahead = f.position > f.newest
	f.join()
	return f, nil
}

// join takes in live entries from where the hub is; whatever came before is in the replay's reach. That is further than
// the stream's end was a moment ago, if an entry came in between and was handed to others.
func (f *Follower) join() {
	var live int64
	f.reader, live = f.hub.join(f.key, f.last)
	f.last = max(f.last, live)
}

// Position is the number behind which the reader starts.
func (f *Follower) Position() int64 { return f.position }

// Close ends the reader.
func (f *Follower) Close() { f.hub.leave(f.key, f.reader) }

// Run hands out what the reader has not, then what comes, until ctx ends, the reader is let go (nil) or a call fails.
// Every entry's number is one above that of the entry, or the Position of the Reset, before it.
func (f *Follower) Run(ctx context.Context, entry func(Entry) error, reset func(Reset) error) error {
	skip := func(to int64) error {
		r := Reset{After: f.position, Position: to}
		f.position = to
		return reset(r)
	}
	next := func(e Entry) error {
		if e.Number <= f.position {
			return nil
		}
		if e.Number != f.position+1 {
			if err := skip(e.Number - 1); err != nil {
				return err
			}
		}
		f.position = e.Number
		return entry(e)
	}
	if f.ahead {
		to := f.newest
		if f.first > 0 {
			to = f.first - 1
		}
		if err := skip(to); err != nil {
			return err
		}
	}
	if err := f.replay(ctx, next, skip); err != nil {
		return err
	}
	// Entries on their way come by themselves, unless Redis loses them between their arrival and the word of it: then
	// nobody hands them out, and the database says in the end that they were written.
	var again <-chan time.Time
	if f.position < f.newest {
		tick := time.NewTicker(recheck)
		defer tick.Stop()
		again = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-f.reader.entries:
			if !open {
				return nil
			}
			if err := next(e); err != nil {
				return err
			}
		case <-again:
			if f.position >= f.newest {
				again = nil
				continue
			}
			var err error
			if f.newest, f.written, err = f.hub.known.Newest(ctx, f.key); err != nil {
				return err
			}
			if err := f.replay(ctx, next, skip); err != nil {
				return err
			}
		}
	}
}

// replay hands out what the stream holds of what the database has given, and skips what it holds no longer.
func (f *Follower) replay(ctx context.Context, next func(Entry) error, skip func(to int64) error) error {
	for f.position < f.newest || f.position < f.last {
		entries, err := f.hub.feed.after(ctx, f.key, f.position, replayCount)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := next(e); err != nil {
				return err
			}
		}
		if len(entries) == 0 {
			break
		}
	}
	if f.position < f.newest && f.written {
		// They were in the stream once and are not: the reader must not wait for them.
		return skip(f.newest)
	}
	return nil
}
