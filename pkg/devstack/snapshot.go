package devstack

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	snapshotVersion = 1
	// pendingLimit bounds the pending entries that are kept of one group.
	pendingLimit = 100_000
	// chunkSize is the number of keys read at a time: a pipeline is written whole before its answers are read, and must
	// fit the connection's buffers.
	chunkSize = 256
)

// snapshot is what is kept of a Redis database. Strings hold any bytes.
type snapshot struct {
	Version int
	Keys    []key
}

// key is one key; which fields are set depends on Kind, Redis' name of its type.
type key struct {
	Name, Kind string
	// ExpiresAt is in Unix milliseconds; 0 means never.
	ExpiresAt int64
	// Values are a string's value, a list's or set's members, or a hash's fields and values in turn.
	Values []string
	Scores []redis.Z
	Stream []entry
	Groups []group
}

type entry struct {
	ID string
	// Values are names and values in turn, sorted by name.
	Values []string
}

type group struct {
	Name, LastID string
	Consumers    []string
	Pending      []redis.XPendingExt
}

// take reads the database in a few round trips. Every key is read whole; what changes between two keys may be in one
// and not yet in the other, as after a crash. A key that goes, or becomes another type, meanwhile is left out.
func take(ctx context.Context, c *redis.Client) (snapshot, error) {
	s := snapshot{Version: snapshotVersion}
	names, err := c.Keys(ctx, "*").Result()
	if err != nil {
		return s, err
	}
	slices.Sort(names)
	for chunk := range slices.Chunk(names, chunkSize) {
		keys, err := takeKeys(ctx, c, chunk)
		if err != nil {
			return s, err
		}
		s.Keys = append(s.Keys, keys...)
	}
	return s, nil
}

func takeKeys(ctx context.Context, c *redis.Client, names []string) ([]key, error) {
	keys := make([]key, len(names))
	steps := []func(*key, redis.Pipeliner) func() error{
		func(k *key, p redis.Pipeliner) func() error { return k.readKind(ctx, p) },
		func(k *key, p redis.Pipeliner) func() error { return k.readValue(ctx, p) },
		// A stream's groups are read before its entries: an entry that comes between is undelivered, and nothing else.
		func(k *key, p redis.Pipeliner) func() error { return k.readPending(ctx, p) },
		func(k *key, p redis.Pipeliner) func() error { return k.readEntries(ctx, p) },
	}
	for i, name := range names {
		keys[i].Name = name
	}
	for _, step := range steps {
		p := c.Pipeline()
		answers := make([]func() error, len(keys))
		for i := range keys {
			answers[i] = step(&keys[i], p)
		}
		if _, err := p.Exec(ctx); err != nil && !isAnswer(err) {
			return nil, err
		}
		for i, answer := range answers {
			if answer == nil {
				continue
			}
			if err := answer(); err != nil {
				keys[i].Kind = "none"
			}
		}
	}
	return slices.DeleteFunc(keys, func(k key) bool { return k.Kind == "none" }), nil
}

// isAnswer tells a refusal by the server from a connection that failed.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// The read functions queue commands and return what is to be done with the answers, nil where there are none.

func (k *key) readKind(ctx context.Context, p redis.Pipeliner) func() error {
	kind, expires := p.Type(ctx, k.Name), p.PExpireTime(ctx, k.Name)
	return func() error {
		k.Kind, k.ExpiresAt = kind.Val(), max(0, expires.Val().Milliseconds())
		return errors.Join(kind.Err(), expires.Err())
	}
}

func (k *key) readValue(ctx context.Context, p redis.Pipeliner) func() error {
	switch k.Kind {
	case "string":
		value := p.Get(ctx, k.Name)
		return func() error { k.Values = []string{value.Val()}; return value.Err() }
	case "list":
		values := p.LRange(ctx, k.Name, 0, -1)
		return func() error { k.Values = values.Val(); return values.Err() }
	case "set":
		members := p.SMembers(ctx, k.Name)
		return func() error { k.Values = slices.Sorted(slices.Values(members.Val())); return members.Err() }
	case "hash":
		fields := p.HGetAll(ctx, k.Name)
		return func() error {
			for _, field := range slices.Sorted(maps.Keys(fields.Val())) {
				k.Values = append(k.Values, field, fields.Val()[field])
			}
			return fields.Err()
		}
	case "zset":
		scores := p.ZRangeWithScores(ctx, k.Name, 0, -1)
		return func() error { k.Scores = scores.Val(); return scores.Err() }
	case "stream":
		groups := p.XInfoGroups(ctx, k.Name)
		return func() error {
			for _, g := range groups.Val() {
				k.Groups = append(k.Groups, group{Name: g.Name, LastID: g.LastDeliveredID})
			}
			slices.SortFunc(k.Groups, func(x, y group) int { return strings.Compare(x.Name, y.Name) })
			return groups.Err()
		}
	default:
		k.Kind = "none" // not kept
		return nil
	}
}

func (k *key) readPending(ctx context.Context, p redis.Pipeliner) func() error {
	var answers []func() error
	for i := range k.Groups {
		g := &k.Groups[i]
		pending := p.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: k.Name, Group: g.Name, Start: "-", End: g.LastID, Count: pendingLimit,
		})
		consumers := p.XInfoConsumers(ctx, k.Name, g.Name)
		answers = append(answers, func() error {
			g.Pending = pending.Val()
			for _, consumer := range consumers.Val() {
				g.Consumers = append(g.Consumers, consumer.Name)
			}
			return errors.Join(pending.Err(), consumers.Err())
		})
	}
	return func() error {
		var errs []error
		for _, answer := range answers {
			errs = append(errs, answer())
		}
		return errors.Join(errs...)
	}
}

func (k *key) readEntries(ctx context.Context, p redis.Pipeliner) func() error {
	if k.Kind != "stream" {
		return nil
	}
	messages := p.XRange(ctx, k.Name, "-", "+")
	return func() error {
		for _, m := range messages.Val() {
			e := entry{ID: m.ID}
			for _, name := range slices.Sorted(maps.Keys(m.Values)) {
				value, _ := m.Values[name].(string) // XRANGE answers strings
				e.Values = append(e.Values, name, value)
			}
			k.Stream = append(k.Stream, e)
		}
		return messages.Err()
	}
}

// restore writes the snapshot into an empty database in one transaction, so that nobody sees half of it.
func (s snapshot) restore(ctx context.Context, c *redis.Client, now time.Time) error {
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range s.Keys {
			if k.ExpiresAt != 0 && k.ExpiresAt <= now.UnixMilli() {
				continue
			}
			k.restore(ctx, p)
			if k.ExpiresAt != 0 {
				p.PExpireAt(ctx, k.Name, time.UnixMilli(k.ExpiresAt))
			}
		}
		return nil
	})
	return err
}

func (k key) restore(ctx context.Context, p redis.Pipeliner) {
	switch k.Kind {
	case "string":
		p.Set(ctx, k.Name, k.Values[0], 0)
	case "list":
		p.RPush(ctx, k.Name, k.Values)
	case "set":
		p.SAdd(ctx, k.Name, k.Values)
	case "hash":
		p.HSet(ctx, k.Name, k.Values)
	case "zset":
		p.ZAdd(ctx, k.Name, k.Scores...)
	case "stream":
		for _, e := range k.Stream {
			p.XAdd(ctx, &redis.XAddArgs{Stream: k.Name, ID: e.ID, Values: e.Values})
		}
		for _, g := range k.Groups {
			p.XGroupCreateMkStream(ctx, k.Name, g.Name, g.LastID)
			for _, consumer := range g.Consumers {
				p.XGroupCreateConsumer(ctx, k.Name, g.Name, consumer)
			}
			for _, e := range g.Pending {
				p.Do(ctx, "XCLAIM", k.Name, g.Name, e.Consumer, 0, e.ID,
					"IDLE", e.Idle.Milliseconds(), "RETRYCOUNT", e.RetryCount, "FORCE", "JUSTID")
			}
		}
	}
}
