// Package notification is the notification service: it listens to what happens to orders, and tells their customers,
// once for each transition, by a Redis stream that clients follow, and by a webhook.
//
// Nobody waits for it and nobody knows of it. What is here is wiring; the packages below say what they promise.
package notification

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/queue"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification/internal/fanout"
	"github.com/orderflow/orderflow/services/notification/internal/rest"
	"github.com/orderflow/orderflow/services/notification/internal/store"
	"github.com/orderflow/orderflow/services/notification/internal/webhook"
)

// Config is the service's configuration.
type Config struct {
	service.Base
	App app.Config

	Retention       time.Duration `env:"NOTIFICATION_RETENTION" envDefault:"720h" desc:"how long notifications and deliveries are kept, 1m to 87600h"`
	FeedMaxEntries  int64         `env:"FEED_MAX_ENTRIES" envDefault:"1000" desc:"how many notifications a customer's stream keeps, 1 to 1000000"`
	FeedExpiry      time.Duration `env:"FEED_EXPIRY" envDefault:"0s" desc:"how long after its last notification a stream is kept, 1s to 87600h; 0s means NOTIFICATION_RETENTION"`
	StreamHeartbeat time.Duration `env:"STREAM_HEARTBEAT" envDefault:"15s" desc:"how often an event stream says that it is alive, 100ms to 5m"`

	WebhookURL            string        `env:"WEBHOOK_URL" secret:"true" desc:"where notifications are posted; empty turns the channel off"`
	WebhookTimeout        time.Duration `env:"WEBHOOK_TIMEOUT" envDefault:"5s" desc:"how long one attempt may take, 10ms to 5m"`
	WebhookMaxAttempts    int           `env:"WEBHOOK_MAX_ATTEMPTS" envDefault:"5" desc:"attempts before a delivery is dead-lettered, 1 to 100"`
	WebhookBackoffInitial time.Duration `env:"WEBHOOK_BACKOFF_INITIAL" envDefault:"500ms" desc:"wait before the second attempt, then doubled, 1ms to 1h"`
	WebhookBackoffMax     time.Duration `env:"WEBHOOK_BACKOFF_MAX" envDefault:"30s" desc:"longest wait between two attempts, at least WEBHOOK_BACKOFF_INITIAL and at most 1h"`
	WebhookWorkers        int           `env:"WEBHOOK_WORKERS" envDefault:"4" desc:"deliveries at once, 1 to 64"`
	WebhookTakeover       time.Duration `env:"WEBHOOK_TAKEOVER" envDefault:"5s" desc:"after what silence a process's deliveries are taken over by others, 500ms to 1h"`
}

// Defaults are this service's own where service.Base has others.
func (Config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8084"} }

// Validate names every setting that is out of its range.
func (c Config) Validate() []error {
	var errs []error
	within := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s is %s, must be from %s to %s", name, v, low, high))
		}
	}
	count := func(name string, v, low, high int64) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s is %d, must be from %d to %d", name, v, low, high))
		}
	}
	if c.RedisURL == "" {
		errs = append(errs, fmt.Errorf("REDIS_URL is empty, must be redis://[:password@]host:port[/db]"))
	}
	if c.App.ReplayGroup != "" {
		errs = append(errs, errors.New("REPLAY_GROUP is set, must be empty for the notification service: customers follow its Redis streams, which a second instance would write to"))
	}
	within("NOTIFICATION_RETENTION", c.Retention, time.Minute, 87600*time.Hour)
	count("FEED_MAX_ENTRIES", c.FeedMaxEntries, 1, 1_000_000)
	if c.FeedExpiry != 0 {
		within("FEED_EXPIRY", c.FeedExpiry, time.Second, 87600*time.Hour)
	}
	within("STREAM_HEARTBEAT", c.StreamHeartbeat, 100*time.Millisecond, 5*time.Minute)
	if c.WebhookURL != "" {
		u, err := url.Parse(c.WebhookURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("WEBHOOK_URL is %q, must be http://host/path or https://host/path", observe.Mask(c.WebhookURL)))
		}
	}
	within("WEBHOOK_TIMEOUT", c.WebhookTimeout, 10*time.Millisecond, 5*time.Minute)
	count("WEBHOOK_MAX_ATTEMPTS", int64(c.WebhookMaxAttempts), 1, 100)
	within("WEBHOOK_BACKOFF_INITIAL", c.WebhookBackoffInitial, time.Millisecond, time.Hour)
	within("WEBHOOK_BACKOFF_MAX", c.WebhookBackoffMax, c.WebhookBackoffInitial, time.Hour)
	count("WEBHOOK_WORKERS", int64(c.WebhookWorkers), 1, 64)
	within("WEBHOOK_TAKEOVER", c.WebhookTakeover, 500*time.Millisecond, time.Hour)
	return errs
}

const (
	// redisTimeout bounds one readiness check.
	redisTimeout = time.Second
	// requeueAfter is how long, in takeover times, a delivery is outstanding while the queue is idle before it counts as
	// lost, and requeueBatch how many are put back at a time.
	requeueAfter = 6
	requeueBatch = 200
	// retainInterval is how often what is older than the retention is removed, retainBatch how many rows at a time.
	retainInterval = time.Minute
	retainBatch    = 1000
)

// Run wires the service.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	rdb, err := openRedis(cfg, rt)
	if err != nil {
		return err
	}
	feeds := feed.New(rdb, feed.Config{
		Prefix: "notifications:", MaxEntries: cfg.FeedMaxEntries, Expiry: cmp.Or(cfg.FeedExpiry, cfg.Retention),
	}, rt.Logger)
	hooks := queue.New(rdb, queue.Config{
		Stream: webhook.Stream, Group: webhook.Group, Workers: cfg.WebhookWorkers, Takeover: cfg.WebhookTakeover,
		// A new one at each start: what the process before it held goes idle.
		Instance: uuid.NewString(),
	}, rt.Logger)
	a, err := app.New(ctx, rt, cfg.Base, cfg.App, app.Options{
		Source: "/orderflow/notification", Key: "order_id", Migrations: store.Migrations(),
		Topics: kafka.Topics(events.TopicsOf("notification")),
		Validate: func(typ string, data []byte) error {
			if fanout.Internal(typ) {
				return nil
			}
			return events.Validate(typ, data)
		},
		Sender: func(p *kafka.Publisher) app.Sender {
			return fanout.Sender{Feed: feeds, Webhook: hooks, Kafka: p}
		},
	})
	if err != nil {
		return err
	}
	hub := feed.NewHub(feeds, store.Numbers{DB: a.DB, FeedTopic: fanout.FeedTopic}, rt.Logger)
	rt.Go("feed", hub.Run)

	var channels []string
	if cfg.WebhookURL != "" {
		channels = append(channels, webhook.Name)
		if err := startWebhook(cfg, rt, a, hooks); err != nil {
			return err
		}
	}
	fanout.Listen(a.Consumer, cfg.WebhookURL != "")
	err = rest.Mount(a.Router, rest.Server{
		DB: a.DB, Hub: hub, Heartbeat: cfg.StreamHeartbeat, Channels: channels, Logger: rt.Logger,
	})
	if err != nil {
		return err
	}
	rt.Every("retention", retainInterval, func(ctx context.Context) error {
		var err error
		for more := true; more && err == nil && ctx.Err() == nil; {
			more, err = store.Purge(ctx, a.DB, a.Events.Now().Add(-cfg.Retention), retainBatch)
		}
		return err
	})
	return a.Start(ctx)
}

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

// startWebhook works the queue, and keeps it: what is done with is removed, and what Redis lost is put there again.
func startWebhook(cfg Config, rt *service.Runtime, a *app.App, hooks *queue.Queue) error {
	channel, err := webhook.New(webhook.Config{
		URL: cfg.WebhookURL, Timeout: cfg.WebhookTimeout, Connections: cfg.WebhookWorkers, Attempts: cfg.WebhookMaxAttempts,
		BackoffInitial: cfg.WebhookBackoffInitial, BackoffMax: cfg.WebhookBackoffMax,
	}, webhook.Deps{DB: a.DB, DeadLetters: a.DeadLetters, Logger: rt.Logger, Registry: rt.Registry, Now: a.Events.Now})
	if err != nil {
		return err
	}
	rt.OnStop("webhook connections", func(context.Context) error { channel.Close(); return nil })
	rt.Check("webhook", func(context.Context) error { return hooks.Ready() })
	rt.Consume("webhook", func(ctx context.Context) error { return hooks.Run(ctx, channel.Handle) })
	rt.Every("webhook upkeep", cfg.WebhookTakeover, func(ctx context.Context) error {
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
	})
	return nil
}
