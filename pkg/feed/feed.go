package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

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
// stream must come in the order of their numbers; one call holds at most one of each, or a failed one would be
// overtaken.
func (f *Feed) Append(ctx context.Context, entries []Entry) []error {
	pipe := f.rdb.Pipeline()
	added := make([]*redis.StringCmd, len(entries))
	for i, e := range entries {
		added[i] = f.add(ctx, pipe, e)
	}
	// What went wrong is in each command.
	_, _ = pipe.Exec(ctx)
	errs := make([]error, len(entries))
	for i, e := range entries {
		err := added[i].Err()
		if isRefused(err) || isWrongType(err) {
			err = f.settle(ctx, e)
		}
		errs[i] = away("append to "+f.stream(e.Key), err)
	}
	return errs
}

func (f *Feed) add(ctx context.Context, pipe redis.Pipeliner, e Entry) *redis.StringCmd {
	values := []any{fieldID, e.ID, fieldData, e.Data}
	if e.Traceparent != "" {
		values = append(values, fieldTraceparent, e.Traceparent, fieldTracestate, e.Tracestate)
	}
	added := pipe.XAdd(ctx, &redis.XAddArgs{
		Stream: f.stream(e.Key), ID: Position(e.Number), MaxLen: f.cfg.MaxEntries, Approx: true, Values: values,
	})
	pipe.PExpire(ctx, f.stream(e.Key), f.cfg.Expiry)
	return added
}

// settle decides about an entry that Redis refused. Entries are written in order, each only after the one before it was
// acknowledged, so either this very entry is there, from before a crash, or the key has another history and is
// started anew.
func (f *Feed) settle(ctx context.Context, e Entry) error {
	there, err := f.rdb.XRangeN(ctx, f.stream(e.Key), Position(e.Number), Position(e.Number), 1).Result()
	if err != nil && !isWrongType(err) {
		return err
	}
	if len(there) == 1 && there[0].Values[fieldID] == e.ID {
		return nil
	}
	f.logger.WarnContext(ctx, "a stream held something else than these entries and is started anew",
		"stream", f.stream(e.Key), "number", e.Number)
	pipe := f.rdb.TxPipeline()
	pipe.Del(ctx, f.stream(e.Key))
	f.add(ctx, pipe, e)
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
