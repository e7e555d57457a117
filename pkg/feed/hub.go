package feed

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// block is how long one XREAD waits. It is short because a blocked read learns of new readers, and of the end, only
	// when it returns; entries for the readers that it knows come at once.
	block = 200 * time.Millisecond
	// readTimeout bounds one XREAD, so that a connection on which nothing comes any more does not blind all readers.
	readTimeout = block + 3*time.Second
	// readCount bounds what one XREAD returns of each stream.
	readCount = 100
	// buffered is how many entries may wait for one reader before it is let go.
	buffered = 256
	// Waits after a failed read.
	retryInitial = 100 * time.Millisecond
	retryMax     = 2 * time.Second
)

// Hub reads all followed streams with one blocking XREAD and hands each reader its entries.
type Hub struct {
	feed   *Feed
	known  Known
	logger *slog.Logger

	mu     sync.Mutex
	closed bool
	feeds  map[string]*followed
	// changed wakes a Run that has nothing to read.
	changed chan struct{}
}

type followed struct {
	// last is the id up to which the stream has been read.
	last    string
	readers map[*reader]bool
}

type reader struct{ entries chan Entry }

// NewHub returns a hub; it hands out nothing live until Run.
func NewHub(f *Feed, known Known, logger *slog.Logger) *Hub {
	return &Hub{feed: f, known: known, logger: logger, feeds: map[string]*followed{}, changed: make(chan struct{}, 1)}
}

// Readers is how many readers follow at the moment.
func (h *Hub) Readers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.feeds {
		n += len(f.readers)
	}
	return n
}

// join adds a reader, and returns the number behind which it is handed every entry: the given one, or where the hub is
// already because others follow the stream. The reader's channel is closed when it does not keep up, and when the hub
// stops.
func (h *Hub) join(key string, number int64) (*reader, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &reader{entries: make(chan Entry, buffered)}
	if h.closed {
		close(r.entries)
		return r, number
	}
	f := h.feeds[key]
	if f == nil {
		f = &followed{last: Position(number), readers: map[*reader]bool{}}
		h.feeds[key] = f
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
	f.readers[r] = true
	if at, ok := ParsePosition(f.last); ok {
		number = at
	}
	return r, number
}

func (h *Hub) leave(key string, r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(key, r)
}

// drop is leave under the lock. A second drop does nothing.
func (h *Hub) drop(key string, r *reader) {
	f := h.feeds[key]
	if f == nil || !f.readers[r] {
		return
	}
	close(r.entries)
	delete(f.readers, r)
	if len(f.readers) == 0 {
		delete(h.feeds, key)
	}
}

// Run reads until ctx ends; then every reader's channel is closed.
func (h *Hub) Run(ctx context.Context) error {
	defer h.close()
	wait := retryInitial
	for ctx.Err() == nil {
		args := h.positions()
		if len(args) == 0 {
			select {
			case <-ctx.Done():
			case <-h.changed:
			}
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, readTimeout)
		streams, err := h.feed.rdb.XRead(bounded, &redis.XReadArgs{Streams: args, Count: readCount, Block: block}).Result()
		cancel()
		if err != nil && !errors.Is(err, redis.Nil) {
			if ctx.Err() != nil {
				break
			}
			h.logger.WarnContext(ctx, "live entries cannot be read just now", "wait", wait, "error", err)
			if isWrongType(err) {
				h.clear(ctx, args[:len(args)/2])
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, retryMax)
			continue
		}
		wait = retryInitial
		for _, s := range streams {
			h.hand(ctx, s)
		}
	}
	return nil
}

// positions is XREAD's STREAMS argument: names, then ids.
func (h *Hub) positions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := slices.Sorted(maps.Keys(h.feeds))
	args := make([]string, 0, 2*len(keys))
	for _, key := range keys {
		args = append(args, h.feed.stream(key))
	}
	for _, key := range keys {
		args = append(args, h.feeds[key].last)
	}
	return args
}

func (h *Hub) hand(ctx context.Context, s redis.XStream) {
	key := s.Stream[len(h.feed.cfg.Prefix):]
	for _, m := range s.Messages {
		e, ok := decode(key, m)
		if !ok {
			// Its id would stand in the way of the next number; without it the writer sees that and starts anew.
			h.logger.WarnContext(ctx, "an entry that is none of ours is removed", "stream", s.Stream, "entry", m.ID)
			if err := h.feed.rdb.XDel(ctx, s.Stream, m.ID).Err(); err != nil {
				h.logger.WarnContext(ctx, "the entry could not be removed", "stream", s.Stream, "entry", m.ID, "error", err)
			}
			return
		}
		h.handOne(ctx, key, m.ID, e)
	}
}

func (h *Hub) handOne(ctx context.Context, key, entryID string, e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[key]
	if f == nil {
		return
	}
	f.last = entryID
	for r := range f.readers {
		select {
		case r.entries <- e:
		default:
			h.logger.InfoContext(ctx, "a reader does not keep up and is let go; it can resume", "stream", h.feed.stream(key))
			h.drop(key, r)
		}
	}
}

// clear deletes keys that are no streams: one of them would fail the read of all.
func (h *Hub) clear(ctx context.Context, keys []string) {
	for _, key := range keys {
		kind, err := h.feed.rdb.Type(ctx, key).Result()
		if err == nil && kind != "stream" && kind != "none" {
			h.logger.WarnContext(ctx, "a stream was something else and is deleted", "key", key, "type", kind)
			h.feed.rdb.Del(ctx, key)
		}
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for key, f := range h.feeds {
		for r := range f.readers {
			h.drop(key, r)
		}
	}
}
