// Package notification is the notification service: it listens to what happens to orders, and tells their customers,
// once for each transition, by a Redis stream that clients follow, and by a webhook.
//
// Nobody waits for it and nobody knows of it. What is here is wiring; the packages below say what they promise.
package notification

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/app"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/service"
	"github.com/orderflow/orderflow/services/notification/internal/fanout"
	"github.com/orderflow/orderflow/services/notification/internal/feed"
	"github.com/orderflow/orderflow/services/notification/internal/queue"
	"github.com/orderflow/orderflow/services/notification/internal/rest"
	"github.com/orderflow/orderflow/services/notification/internal/store"
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

// Run wires the service.
func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
	rdb, err := openRedis(cfg, rt)
	if err != nil {
		return err
	}
	expiry := cfg.FeedExpiry
	if expiry == 0 {
		expiry = cfg.Retention
	}
	feeds := feed.New(rdb, feed.Config{MaxEntries: cfg.FeedMaxEntries, Expiry: expiry}, rt.Logger)
	hooks, err := queue.New(rdb, queue.Config{
		Stream: fanout.WebhookStream, Group: fanout.WebhookGroup, Workers: cfg.WebhookWorkers, Takeover: cfg.WebhookTakeover,
		Instance: instance(),
	}, rt.Logger)
	if err != nil {
		return err
	}
	a, err := app.New(ctx, rt, cfg.Base, cfg.App, app.Options{
		Source: "/orderflow/notification", Key: "order_id", Migrations: store.Migrations(),
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
		channels = append(channels, fanout.WebhookChannel)
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
	rt.Go("retention", func(ctx context.Context) error { return retain(ctx, cfg, a, rt) })
	return a.Start(ctx)
}
