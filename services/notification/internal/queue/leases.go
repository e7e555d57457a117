package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// leases is a Redis client for one redisstream.Subscriber. It notes which entries the subscriber was given and has not
// acknowledged, tells the codec their ids, and keeps them from being claimed by others. Entries whose delivery was lost
// on the way are not noted, so they go idle and are claimed.
type leases struct {
	redis.UniversalClient
	stream, group, consumer string

	mu   sync.Mutex
	held map[string]bool
}

// Close does nothing: the client is shared, and the Subscriber would close it.
func (l *leases) Close() error { return nil }

func (l *leases) note(m redis.XMessage) {
	if m.Values == nil {
		return
	}
	m.Values[HeaderEntry] = m.ID
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[m.ID] = true
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

// XClaim is how the subscriber gets entries that another held.
func (l *leases) XClaim(ctx context.Context, a *redis.XClaimArgs) *redis.XMessageSliceCmd {
	cmd := l.UniversalClient.XClaim(ctx, a)
	for _, m := range cmd.Val() {
		l.note(m)
	}
	return cmd
}

// XAck is how the subscriber is done with an entry.
func (l *leases) XAck(ctx context.Context, stream, group string, ids ...string) *redis.IntCmd {
	cmd := l.UniversalClient.XAck(ctx, stream, group, ids...)
	if cmd.Err() == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, id := range ids {
			delete(l.held, id)
		}
	}
	return cmd
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
		l.mu.Lock()
		ids := make([]string, 0, len(l.held))
		for id := range l.held {
			ids = append(ids, id)
		}
		l.mu.Unlock()
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
