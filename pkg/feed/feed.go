package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
)

// Fields of an entry.
const (
	fieldID          = "id"
	fieldData        = "data"
	fieldTraceparent = "traceparent"
	fieldTracestate  = "tracestate"
)

// Entry is one entry of a stream.
type Entry struct {
	// Key names the stream.
	Key string
	// Number is the entry's place, from 1; its id in Redis is "<number>-0".
	Number int64
	// ID names what the entry holds, by which an entry that is written again is known.
	ID   string
	Data []byte
	// The trace context is for whoever reads the stream in Redis.
	Traceparent, Tracestate string
}

// Config names and bounds the streams.
type Config struct {
	// Prefix and a key are a stream's name in Redis.
	Prefix string
	// MaxEntries is how many entries a stream keeps, about.
	MaxEntries int64
	// Expiry is how long after its last entry a stream is kept.
	Expiry time.Duration
}

// Feed writes and reads the streams.
type Feed struct {
	rdb    redis.UniversalClient
	cfg    Config
	logger *slog.Logger
}

// New returns the feed in rdb, which stays the caller's.
func New(rdb redis.UniversalClient, cfg Config, logger *slog.Logger) *Feed {
	return &Feed{rdb: rdb, cfg: cfg, logger: logger}
}

// stream is the Redis key of a stream.
func (f *Feed) stream(key string) string { return f.cfg.Prefix + key }

// Position is the place of the entry with this number, "<number>-0", as Redis and Last-Event-ID have it.
func Position(number int64) string { return strconv.FormatInt(number, 10) + "-0" }

// Append adds entries, one error each, in one round trip. An entry that is there already is no error. Entries of one
// stream must come in the order of their numbers; when one of them is not added, none behind it is.
func (f *Feed) Append(ctx context.Context, entries []Entry) []error {
	errs := make([]error, len(entries))
	// A transaction: Redis does all of it or refuses all of it, but for entries whose number is not above the last. So a
	// stream has a gap nowhere, whatever Redis lacks in between (memory, its replicas).
	pipe := f.rdb.TxPipeline()
	added := make([]*redis.StringCmd, len(entries))
	streams := map[string][]int{} // of each, its places in entries
	for i, e := range entries {
		added[i] = f.add(ctx, pipe, e)
		streams[e.Key] = append(streams[e.Key], i)
	}
	for key := range streams {
		pipe.PExpire(ctx, f.stream(key), f.cfg.Expiry)
	}
	// What went wrong is in each command.
	_, _ = pipe.Exec(ctx)
	for key, places := range streams {
		var err error
		mine, refused := make([]Entry, len(places)), false
		for i, at := range places {
			mine[i] = entries[at]
			if bad := added[at].Err(); isRefused(bad) || isWrongType(bad) {
				refused = true
			} else if bad != nil {
				err = bad
			}
		}
		if err == nil && refused {
			err = f.settle(ctx, mine)
		}
		err = failpoint.After(away("append to "+f.stream(key), err), failpoint.FeedAppended)
		for _, at := range places {
			errs[at] = err
		}
	}
	return errs
}

func (f *Feed) add(ctx context.Context, pipe redis.Pipeliner, e Entry) *redis.StringCmd {
	values := []any{fieldID, e.ID, fieldData, e.Data}
	if e.Traceparent != "" {
		values = append(values, fieldTraceparent, e.Traceparent, fieldTracestate, e.Tracestate)
	}
	return pipe.XAdd(ctx, &redis.XAddArgs{
		Stream: f.stream(e.Key), ID: Position(e.Number), MaxLen: f.cfg.MaxEntries, Approx: true, Values: values,
	})
}

// settle decides about a stream's entries of which Redis refused some. Entries are written in order, each only after the
// one before it was acknowledged or with it, so either they are all there now, some of them from before a crash, or the
// key has another history and is started anew with these.
func (f *Feed) settle(ctx context.Context, entries []Entry) error {
	stream, first, last := f.stream(entries[0].Key), entries[0], entries[len(entries)-1]
	there, err := f.rdb.XRange(ctx, stream, Position(first.Number), Position(last.Number)).Result()
	if err != nil && !isWrongType(err) {
		return err
	}
	// The oldest may have been trimmed away already: the stream has a bounded length.
	kept := entries[max(0, len(entries)-len(there)):]
	if len(there) > 0 && slices.EqualFunc(there, kept, func(m redis.XMessage, e Entry) bool {
		return m.ID == Position(e.Number) && m.Values[fieldID] == e.ID
	}) {
		return nil
	}
	f.logger.WarnContext(ctx, "a stream held something else than these entries and is started anew",
		"stream", stream, "number", first.Number)
	pipe := f.rdb.TxPipeline()
	pipe.Del(ctx, stream)
	for _, e := range entries {
		f.add(ctx, pipe, e)
	}
	pipe.PExpire(ctx, stream, f.cfg.Expiry)
	_, err = pipe.Exec(ctx)
	return err
}

// after returns up to count entries with numbers above number, oldest first.
func (f *Feed) after(ctx context.Context, key string, number, count int64) ([]Entry, error) {
	messages, err := f.rdb.XRangeN(ctx, f.stream(key), "("+Position(number), "+", count).Result()
	if err != nil {
		return nil, away("read "+f.stream(key), err)
	}
	entries := make([]Entry, 0, len(messages))
	for _, m := range messages {
		if e, ok := decode(key, m); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// bounds returns the first and last number that the stream holds, 0 and 0 when it is empty.
func (f *Feed) bounds(ctx context.Context, key string) (first, last int64, err error) {
	// More than one is read because an entry by another hand may stand at either end.
	const enough = 16
	pipe := f.rdb.Pipeline()
	oldest := pipe.XRangeN(ctx, f.stream(key), "-", "+", enough)
	newest := pipe.XRevRangeN(ctx, f.stream(key), "+", "-", enough)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, 0, away("read "+f.stream(key), err)
	}
	for _, m := range oldest.Val() {
		if e, ok := decode(key, m); ok {
			first = e.Number
			break
		}
	}
	for _, m := range newest.Val() {
		if e, ok := decode(key, m); ok {
			last = e.Number
			break
		}
	}
	return first, last, nil
}

// decode reads an entry; false when it is none of ours.
func decode(key string, m redis.XMessage) (Entry, bool) {
	number, ok := ParsePosition(m.ID)
	text := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	e := Entry{
		Key: key, Number: number, ID: text(fieldID), Data: []byte(text(fieldData)),
		Traceparent: text(fieldTraceparent), Tracestate: text(fieldTracestate),
	}
	return e, ok && e.ID != "" && len(e.Data) > 0
}

// ParsePosition is the number of "<number>-0"; false for anything that no entry has as its id. 0-0 is the place before
// the first.
func ParsePosition(position string) (int64, bool) {
	digits, ok := strings.CutSuffix(position, "-0")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 63)
	return int64(number), err == nil
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "equal or smaller")
}

func isWrongType(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE")
}

// away marks what Redis answers or does not answer: whatever it is, the entry is not at fault.
func away(operation string, err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	return fault.AsUnavailable(fmt.Errorf("%s: %w", operation, err))
}
