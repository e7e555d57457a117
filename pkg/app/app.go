package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/parking"
	"github.com/orderflow/orderflow/pkg/service"
)

// Config is what the common parts take from the environment; a service's configuration embeds it beside service.Base.
type Config struct {
	consumer.Config
	MaxInFlight          int           `env:"CONSUMER_MAX_IN_FLIGHT" envDefault:"256" desc:"most messages of one partition at work at a time, 1 to 10000"`
	MaxInFlightTotal     int           `env:"CONSUMER_MAX_IN_FLIGHT_TOTAL" envDefault:"2048" desc:"most messages of all partitions at work at a time, beside 32 of each, 1 to 100000"`
	ParkedMax            int           `env:"CONSUMER_PARKED_MAX" envDefault:"10000" desc:"most messages of one partition that wait in the database behind a message that failed, 1 to 1000000; those beyond wait in memory, and hold up the partition when it is full"`
	MaxInFlightBytes     int           `env:"CONSUMER_MAX_IN_FLIGHT_BYTES" envDefault:"2097152" desc:"most bytes of these messages together, 1024 to 1073741824; one message may be larger"`
	RequestBatchMax      int           `env:"REQUEST_BATCH_MAX" envDefault:"256" desc:"most requests with an Idempotency-Key that share one transaction, of those that wait at that moment, 1 to 1024"`
	RequestWaitingMax    int           `env:"REQUEST_WAITING_MAX" envDefault:"1024" desc:"most requests that wait for that transaction; the next one gets a 503, 1 to 100000"`
	RequestsMax          int           `env:"REQUESTS_MAX" envDefault:"2000" desc:"most requests at work at a time, event streams included; the next one gets a 503, 1 to 100000"`
	InboxRetention       time.Duration `env:"INBOX_RETENTION" envDefault:"336h" desc:"how long a handled message is remembered; longer than the topics keep it, 1h to 8760h"`
	IdempotencyRetention time.Duration `env:"IDEMPOTENCY_RETENTION" envDefault:"24h" desc:"how long an Idempotency-Key is remembered, 1m to 720h"`
	DeadLetterRetention  time.Duration `env:"DEAD_LETTER_RETENTION" envDefault:"2160h" desc:"how long a dead letter is kept that was redriven or discarded, and who did what to letters that are gone; longer than the dead-letter topic keeps it, 1h to 87600h"`
	LagInterval          time.Duration `env:"LAG_INTERVAL" envDefault:"15s" desc:"how often the lag of the consumer group is asked for, 100ms to 1h"`
	ReplayGroup          string        `env:"REPLAY_GROUP" desc:"run beside the service, as this group: handle only what 'orderctl replay' sends it, into a database of its own, and let nothing out; <service>.<name>"`
	InstanceID           string        `env:"INSTANCE_ID" desc:"stable name of this replica, which no other has at the same time: it gets its partitions and its part of the outbox back at once after a crash"`
}

// Validate names every setting that is out of its range.
func (c Config) Validate() []error {
	var errs []error
	if err := c.Config.Validate(); err != nil {
		errs = append(errs, err)
	}
	for _, n := range []struct {
		name           string
		is, from, upTo int
	}{
		{"CONSUMER_MAX_IN_FLIGHT", c.MaxInFlight, 1, 10_000}, {"CONSUMER_MAX_IN_FLIGHT_BYTES", c.MaxInFlightBytes, 1 << 10, 1 << 30},
		{"CONSUMER_PARKED_MAX", c.ParkedMax, 1, 1_000_000}, {"CONSUMER_MAX_IN_FLIGHT_TOTAL", c.MaxInFlightTotal, 1, 100_000},
		{"REQUEST_BATCH_MAX", c.RequestBatchMax, 1, 1024}, {"REQUEST_WAITING_MAX", c.RequestWaitingMax, 1, 100_000},
		{"REQUESTS_MAX", c.RequestsMax, 1, 100_000},
	} {
		if n.is < n.from || n.is > n.upTo {
			errs = append(errs, fmt.Errorf("%s is %d, must be from %d to %d", n.name, n.is, n.from, n.upTo))
		}
	}
	if c.InboxRetention < time.Hour || c.InboxRetention > 8760*time.Hour {
		errs = append(errs, fmt.Errorf("INBOX_RETENTION is %s, must be from 1h to 8760h", c.InboxRetention))
	}
	if c.IdempotencyRetention < time.Minute || c.IdempotencyRetention > 720*time.Hour {
		errs = append(errs, fmt.Errorf("IDEMPOTENCY_RETENTION is %s, must be from 1m to 720h", c.IdempotencyRetention))
	}
	if c.DeadLetterRetention < time.Hour || c.DeadLetterRetention > 87600*time.Hour {
		errs = append(errs, fmt.Errorf("DEAD_LETTER_RETENTION is %s, must be from 1h to 87600h", c.DeadLetterRetention))
	}
	if c.LagInterval < 100*time.Millisecond || c.LagInterval > time.Hour {
		errs = append(errs, fmt.Errorf("LAG_INTERVAL is %s, must be from 100ms to 1h", c.LagInterval))
	}
	return errs
}

// Options is what a service says of itself.
type Options struct {
	// Source is the CloudEvents source of what it publishes: "/orderflow/payment".
	Source string
	// Key is the name under which logs carry a message's key: "order_id".
	Key string
	// Migrations are the service's own tables.
	Migrations fs.FS
	// Also are further migrations by name, of packages that only this service uses.
	Also map[string]fs.FS
	// Topics are those that the service sends to and reads from, as they are declared, its dead letters and redrives
	// included. It does not run without them.
	Topics []kafka.Topic
	// Validate checks a message's data against its type's schema.
	Validate func(typ string, data []byte) error
	// Guarantee is what becomes of a message to the service when something fails; see package consumer. The outbox is
	// at least once whatever it says.
	Guarantee kafka.Guarantee
	// Sender, if set, takes the place of the Kafka publisher behind the outbox and behind redrives, which it gets: a
	// service that also sends elsewhere decides by topic.
	Sender func(*kafka.Publisher) Sender
}

// Sender sends what leaves the service.
type Sender interface {
	outbox.Sender
	deadletter.Sender
}

// App is the common parts of one service.
type App struct {
	// Group is its consumer group: the service's name, or Config.ReplayGroup.
	Group       string
	Runtime     *service.Runtime
	DB          *database.DB
	Events      event.Factory
	Outbox      *outbox.Outbox
	Publisher   *kafka.Publisher
	Kafka       kafka.Config
	Consumer    *consumer.Consumer
	DeadLetters *deadletter.Store
	Parking     *parking.Store
	Idempotency *httpapi.Idempotency
	// Router is where the API is mounted; Start serves it.
	Router chi.Router

	cfg    Config
	topics []kafka.Topic
	sender Sender
	once   *coalesce.Group[onceCall, httpapi.Response]
}

// purge is how often what has expired is removed, and how many rows at a time.
const (
	purgeInterval = time.Minute
	purgeBatch    = 5000
)

// New opens the database, brings its tables up to date and makes the parts. Nothing runs before Start.
func New(ctx context.Context, rt *service.Runtime, base service.Base, cfg Config, opts Options) (*App, error) {
	a := &App{
		Group: rt.Name, Runtime: rt, Events: event.NewFactory(opts.Source), cfg: cfg, topics: opts.Topics,
		Kafka: kafka.Config{Brokers: base.Brokers, ClientID: rt.Name},
	}
	if cfg.ReplayGroup != "" {
		if err := checkReplayGroup(rt.Name, cfg.ReplayGroup); err != nil {
			return nil, err
		}
		a.Group, a.topics = cfg.ReplayGroup, besides(opts.Topics, rt.Name, cfg.ReplayGroup)
	}
	err := rt.Await(ctx, "database", func(ctx context.Context) (err error) {
		a.DB, err = database.Open(ctx, base.DatabaseURL)
		return err
	})
	if err != nil {
		return nil, err
	}
	rt.OnStop("database", func(context.Context) error { return a.DB.Close() })
	rt.Check("database", a.DB.Ping)

	migrations := map[string]fs.FS{
		"outbox": outbox.Migrations, "inbox": inbox.Migrations, "parked": parking.Migrations, "dead_letters": deadletter.Migrations,
		"idempotency": httpapi.Migrations, "service": opts.Migrations,
	}
	for name, files := range opts.Also {
		migrations[name] = files
	}
	for name, files := range migrations {
		if files == nil {
			continue
		}
		err := rt.Await(ctx, "migrations", func(ctx context.Context) error { return a.DB.Migrate(ctx, name, files) })
		if err != nil {
			return nil, err
		}
	}
	if cfg.ReplayGroup != "" {
		if err := rt.Await(ctx, "database", a.checkReplayDatabase); err != nil {
			return nil, err
		}
	}
	// It connects at its first send: a service starts before its broker and is unready until that is there.
	a.Publisher, err = kafka.NewPublisher(kafka.PublisherConfig{Config: a.Kafka}, rt.Logger)
	if err != nil {
		return nil, err
	}
	rt.OnStop("publisher", func(context.Context) error { return a.Publisher.Close() })
	a.sender = a.Publisher
	if opts.Sender != nil {
		a.sender = opts.Sender(a.Publisher)
	}

	a.Outbox = outbox.New(a.DB, a.Events, outbox.Options{
		Validate: func(e event.Event) error { return opts.Validate(e.Type, e.Data) }, Logger: rt.Logger,
	})
	a.DeadLetters = deadletter.NewStore(a.DB, a.sender, a.Events.Now)
	a.Parking = parking.New(a.DB, a.Group, a.Events.Now, deadletter.RedriveTopic(a.Group))
	a.DeadLetters.OnSettled(func(ctx context.Context, tx *database.Tx, ids []string, _ deadletter.State) error {
		return a.Parking.Release(ctx, tx, ids...)
	})
	a.Idempotency = httpapi.NewIdempotency(cfg.IdempotencyRetention)
	a.once = coalesce.New(cfg.RequestBatchMax, cfg.RequestWaitingMax, a.answerAll)
	a.Consumer, err = consumer.New(cfg.Config, consumer.Deps{
		Group: a.Group, RedriveOnly: cfg.ReplayGroup != "", Guarantee: opts.Guarantee, DB: a.DB, Outbox: a.Outbox, DeadLetters: a.DeadLetters, Parking: a.Parking, Sender: a.Publisher,
		Validate: opts.Validate, Key: opts.Key, Logger: rt.Logger, Registry: rt.Registry, Now: a.Events.Now,
	})
	if err != nil {
		return nil, err
	}
	a.Router, err = httpapi.NewRouter(httpapi.Deps{Logger: rt.Logger, Registry: rt.Registry, Tracer: rt.Tracer, MaxInFlight: cfg.RequestsMax})
	if err != nil {
		return nil, err
	}
	return a, errors.Join(deadletter.Mount(a.Router, a.DeadLetters), parking.Mount(a.Router, a.Parking))
}

// Start runs the relay, the consumer, the dead-letter index and the upkeep, and serves the router. The broker may be
// away; when it answers that a topic is missing or too small, the process ends.
func (a *App) Start(ctx context.Context) error {
	if err := a.declared(); err != nil {
		return err
	}
	rt := a.Runtime
	admin, err := kafka.NewAdmin(a.Kafka)
	if err != nil {
		return err
	}
	rt.OnStop("broker admin", func(context.Context) error { return admin.Close() })
	rt.Check("broker", admin.Reachable)
	there := make(chan struct{}) // closed when the topics are there; until then nothing is taken in
	rt.Go("topics", func(ctx context.Context) error {
		err := a.requireTopics(ctx, admin)
		if err == nil && ctx.Err() == nil {
			close(there)
		}
		return err
	})
	consume := func(name string, fn func(context.Context) error) {
		rt.Consume(name, func(ctx context.Context) error {
			select {
			case <-there:
				return fn(ctx)
			case <-ctx.Done():
				return nil
			}
		})
	}

	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Config: a.Kafka, Group: a.Group, Topics: a.Consumer.Topics(), Guarantee: a.Consumer.Guarantee(), InstanceID: a.cfg.InstanceID,
		MaxInFlight: a.cfg.MaxInFlight, MaxInFlightTotal: a.cfg.MaxInFlightTotal, MaxInFlightBytes: a.cfg.MaxInFlightBytes,
		Parking: a.Parking, ParkedMax: a.cfg.ParkedMax,
	}, rt.Logger)
	if err != nil {
		return err
	}
	rt.Check("consumer", func(context.Context) error {
		return errors.Join(subscriber.Trouble(), a.Consumer.Ready())
	})
	if err := rt.Registry.Register(a.Parking.Collector()); err != nil {
		return fmt.Errorf("parking metrics: %w", err)
	}
	rt.Go("blocked keys", func(ctx context.Context) error {
		a.Parking.Run(ctx, rt.Logger)
		return nil
	})
	consume("consumer", func(ctx context.Context) error { return a.Consumer.Run(ctx, subscriber) })
	consume("dead-letter index", func(ctx context.Context) error {
		deadletter.Index(ctx, a.Kafka, a.Group, a.cfg.InstanceID, a.DeadLetters, rt.Logger)
		return nil
	})
	consume("dead-letter jobs", func(ctx context.Context) error { return a.DeadLetters.Run(ctx, rt.Logger) })
	relay := outbox.RelayOptions{Logger: rt.Logger, Registerer: rt.Registry}
	if a.DB.Dialect() == database.Postgres {
		relay.Owner = a.cfg.InstanceID // a replica that was killed and is back takes its own leases over, and does not wait for their end
	}
	rt.Go("relay", a.Outbox.Relay(a.relayTo(), relay).Run)
	lag := newLagMetrics(admin, a.Group, a.Consumer.Topics(), a.Events.Now)
	if err := rt.Registry.Register(lag); err != nil {
		return fmt.Errorf("lag metrics: %w", err)
	}
	rt.Every("consumer lag", a.cfg.LagInterval, lag.update)
	letters, err := deadletter.NewMetrics(a.DeadLetters, rt.Registry)
	if err != nil {
		return err
	}
	rt.Every("dead-letter count", a.cfg.LagInterval, letters.Update)
	rt.Every("inbox purge", purgeInterval, func(ctx context.Context) error {
		_, err := inbox.Purge(ctx, a.DB, a.Events.Now().Add(-a.cfg.InboxRetention), purgeBatch)
		return err
	})
	rt.Every("idempotency key purge", purgeInterval, func(ctx context.Context) error {
		_, err := a.Idempotency.Purge(ctx, a.DB, a.Events.Now(), purgeBatch)
		return err
	})
	rt.Every("dead-letter purge", purgeInterval, func(ctx context.Context) error {
		return a.DeadLetters.Purge(ctx, a.Events.Now().Add(-a.cfg.DeadLetterRetention), purgeBatch)
	})
	rt.HTTP(a.Router)
	return nil
}
