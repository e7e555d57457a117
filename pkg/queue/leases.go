package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// hand is what the workers of one process have in hand: entries by id, each with its worker.
type hand struct {
	mu sync.Mutex
	by map[string]*leases
}

// leases is a Redis client for one redisstream.Subscriber. It notes which entries the subscriber was given and has not
// acknowledged, tells the codec their ids, and keeps them from being claimed by others. Entries whose delivery was lost
// on the way are not noted, so they go idle and are claimed.
type leases struct {
	redis.UniversalClient
	stream, group, consumer string
	hand                    *hand
}

// Close does nothing: the client is shared, and the Subscriber would close it.
func (l *leases) Close() error { return nil }

// note enters an entry, and gives its id to the codec.
func (l *leases) note(m redis.XMessage) {
	if m.Values == nil {
		return
	}
	m.Values[HeaderEntry] = m.ID
	l.hand.mu.Lock()
	defer l.hand.mu.Unlock()
	l.hand.by[m.ID] = l
}

// XReadGroup is how the subscriber gets new entries.
func (l *leases) XReadGroup(ctx context.Context, a *redis.XReadGroupArgs) *redis.XStreamSliceCmd {
	cmd := l.UniversalClient.XReadGroup(ctx, a)
	for _, s := range cmd.Val() {
		for _, m := range s.Messages {
			l.note(m)
		}
	}
	return cmd
}

// XClaim is how the subscriber gets entries that another process held. Redis sees to it that one of several processes
// gets an entry; among the workers of this one it is seen to here, because not every server looks at the idle time.
func (l *leases) XClaim(ctx context.Context, a *redis.XClaimArgs) *redis.XMessageSliceCmd {
	l.hand.mu.Lock()
	for _, id := range a.Messages {
		if l.hand.by[id] != nil {
			l.hand.mu.Unlock()
			return redis.NewXMessageSliceCmd(ctx) // nothing was claimed
		}
	}
	for _, id := range a.Messages {
		l.hand.by[id] = l
	}
	l.hand.mu.Unlock()
	cmd := l.UniversalClient.XClaim(ctx, a)
	if len(cmd.Val()) < len(a.Messages) {
		l.drop(a.Messages...)
	}
	for _, m := range cmd.Val() {
		l.note(m)
	}
	return cmd
}

// XAck is how the subscriber is done with an entry.
func (l *leases) XAck(ctx context.Context, stream, group string, ids ...string) *redis.IntCmd {
	cmd := l.UniversalClient.XAck(ctx, stream, group, ids...)
	if cmd.Err() == nil {
		l.drop(ids...)
	}
	return cmd
}

func (l *leases) drop(ids ...string) {
	l.hand.mu.Lock()
	defer l.hand.mu.Unlock()
	for _, id := range ids {
		if l.hand.by[id] == l {
			delete(l.hand.by, id)
		}
	}
}

// held are the entries that this worker has in hand.
func (l *leases) held() []string {
	l.hand.mu.Lock()
	defer l.hand.mu.Unlock()
	var ids []string
	for id, worker := range l.hand.by {
		if worker == l {
			ids = append(ids, id)
		}
	}
	return ids
}

// keep renews what is held until ctx ends.
func (l *leases) keep(ctx context.Context, every time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ids := l.held()
		if len(ids) == 0 {
			continue
		}
		// Claiming what one has already sets its idle time to zero.
		err := l.XClaimJustID(ctx, &redis.XClaimArgs{Stream: l.stream, Group: l.group, Consumer: l.consumer, Messages: ids}).Err()
		if err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "entries in hand could not be renewed; another process may take them", "stream", l.stream, "error", err)
		}
	}
}
