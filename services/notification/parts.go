package notification

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification/internal/fanout"
	"github.com/orderflow/orderflow/services/notification/internal/queue"
	"github.com/orderflow/orderflow/services/notification/internal/store"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

const (
	// requeueAfter is how long, in takeover times, a delivery is outstanding while the queue is idle before it counts as
	// lost, and requeueBatch how many are put back at a time.
	requeueAfter = 6
	requeueBatch = 200
	// retainInterval is how often what is older than the retention is removed, retainBatch how many rows at a time.
	retainInterval = time.Minute
	retainBatch    = 1000
	// redisTimeout bounds one readiness check.
	redisTimeout = time.Second
)

// instance is a name that no other process has, nor this one after a restart: what its predecessor held goes idle.
func instance() string { return uuid.Must(uuid.NewV7()).String() }

// openRedis connects when it is first used. Redis may be away at the start, and any time later.
func openRedis(cfg Config, rt *service.Runtime) (*redis.Client, error) {
	opts, err := redis.ParseURL(cfg.RedisURL)
	if err != nil {
		// The library's error may quote the URL with its password.
		return nil, fault.Permanentf("REDIS_URL cannot be parsed")
	}
	// Each worker has a blocking read and a claim of its own, the hub one.
	opts.PoolSize = 3*cfg.WebhookWorkers + 16
	opts.ContextTimeoutEnabled = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	rdb := redis.NewClient(opts)
	rt.OnStop("redis", func(context.Context) error { return rdb.Close() })
	rt.Check("redis", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		if err := rdb.Ping(ctx).Err(); err != nil {
			return fault.Unavailablef("redis: %w", err)
		}
		return nil
	})
	return rdb, nil
}

func startWebhook(cfg Config, rt *service.Runtime, a *app.App, hooks *queue.Queue) error {
	poster := webhook.NewPoster(cfg.WebhookURL, cfg.WebhookTimeout, cfg.WebhookWorkers)
	rt.OnStop("webhook connections", func(context.Context) error { poster.Close(); return nil })
	channel, err := webhook.New(webhook.Config{
		Attempts: cfg.WebhookMaxAttempts, BackoffInitial: cfg.WebhookBackoffInitial, BackoffMax: cfg.WebhookBackoffMax,
	}, webhook.Deps{
		Channel: fanout.WebhookChannel, Stream: fanout.WebhookStream, Group: fanout.WebhookGroup,
		DB: a.DB, DeadLetters: a.DeadLetters, Poster: poster, Logger: rt.Logger, Registry: rt.Registry, Now: a.Events.Now,
	})
	if err != nil {
		return err
	}
	rt.Check("webhook", func(context.Context) error { return hooks.Ready() })
	rt.Consume("webhook", func(ctx context.Context) error { return hooks.Run(ctx, channel.Handle) })
	rt.Go("webhook upkeep", func(ctx context.Context) error {
		return every(ctx, cfg.WebhookTakeover, func() error {
			if _, err := hooks.Trim(ctx); err != nil {
				return err
			}
			idle, err := hooks.Idle(ctx)
			if err != nil || !idle {
				return err
			}
			// What is on its way to the queue now is younger than this.
			n, err := fanout.Requeue(ctx, a.Outbox, a.Events.Now().Add(-requeueAfter*cfg.WebhookTakeover), requeueBatch)
			if n > 0 {
				rt.Logger.WarnContext(ctx, "deliveries were outstanding but not in the queue, and are put there again", "count", n)
			}
			return err
		}, rt)
	})
	return nil
}

// retain removes what is older than the retention.
func retain(ctx context.Context, cfg Config, a *app.App, rt *service.Runtime) error {
	return every(ctx, retainInterval, func() error {
		for ctx.Err() == nil {
			more, err := store.Purge(ctx, a.DB, a.Events.Now().Add(-cfg.Retention), retainBatch)
			if err != nil {
				return fmt.Errorf("retention: %w", err)
			}
			if !more {
				return nil
			}
		}
		return nil
	}, rt)
}

// every calls fn until ctx ends. What fails is tried again in the next round: nothing depends on it.
func every(ctx context.Context, interval time.Duration, fn func() error, rt *service.Runtime) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := fn(); err != nil && ctx.Err() == nil {
			rt.Logger.WarnContext(ctx, "upkeep failed, trying again later", "error", err)
		}
	}
}
