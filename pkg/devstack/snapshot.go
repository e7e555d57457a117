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

// take reads the database. Every key is read whole; what changes between two keys may be in one and not yet in the
// other, as after a crash.
func take(ctx context.Context, c *redis.Client) (snapshot, error) {
	s := snapshot{Version: snapshotVersion}
	names, err := c.Keys(ctx, "*").Result()
	if err != nil {
		return s, err
	}
	slices.Sort(names)
	for _, name := range names {
		k, err := takeKey(ctx, c, name)
		if err != nil && !errors.Is(err, redis.Nil) && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return s, err
		}
		if err == nil && k.Kind != "none" {
			s.Keys = append(s.Keys, k)
		} // otherwise it went, or became another, meanwhile
	}
	return s, nil
}

func takeKey(ctx context.Context, c *redis.Client, name string) (key, error) {
	k := key{Name: name}
	var err error
	if k.Kind, err = c.Type(ctx, name).Result(); err != nil {
		return k, err
	}
	expires, err := c.PExpireTime(ctx, name).Result()
	if err != nil {
		return k, err
	}
	k.ExpiresAt = max(0, expires.Milliseconds())
	switch k.Kind {
	case "string":
		var value string
		value, err = c.Get(ctx, name).Result()
		k.Values = []string{value}
	case "list":
		k.Values, err = c.LRange(ctx, name, 0, -1).Result()
	case "set":
		k.Values, err = c.SMembers(ctx, name).Result()
		slices.Sort(k.Values)
	case "hash":
		var fields map[string]string
		fields, err = c.HGetAll(ctx, name).Result()
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			k.Values = append(k.Values, field, fields[field])
		}
	case "zset":
		k.Scores, err = c.ZRangeWithScores(ctx, name, 0, -1).Result()
	case "stream":
		err = k.takeStream(ctx, c)
	default:
		k.Kind = "none" // not kept
	}
	return k, err
}

func (k *key) takeStream(ctx context.Context, c *redis.Client) error {
	// The groups first: an entry that comes later is undelivered, and nothing else.
	groups, err := c.XInfoGroups(ctx, k.Name).Result()
	if err != nil {
		return err
	}
	slices.SortFunc(groups, func(x, y redis.XInfoGroup) int { return strings.Compare(x.Name, y.Name) })
	for _, g := range groups {
		kept := group{Name: g.Name, LastID: g.LastDeliveredID}
		pending, err := c.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: k.Name, Group: g.Name, Start: "-", End: g.LastDeliveredID, Count: pendingLimit,
		}).Result()
		if err != nil {
			return err
		}
		kept.Pending = pending
		consumers, err := c.XInfoConsumers(ctx, k.Name, g.Name).Result()
		if err != nil {
			return err
		}
		for _, consumer := range consumers {
			kept.Consumers = append(kept.Consumers, consumer.Name)
		}
		k.Groups = append(k.Groups, kept)
	}
	messages, err := c.XRange(ctx, k.Name, "-", "+").Result()
	for _, m := range messages {
		e := entry{ID: m.ID}
		for _, name := range slices.Sorted(maps.Keys(m.Values)) {
			value, _ := m.Values[name].(string) // XRANGE answers strings
			e.Values = append(e.Values, name, value)
		}
		k.Stream = append(k.Stream, e)
	}
	return err
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
