package stack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/internal/native"
)

// servers are what services need: Kafka with the topics, Redis, and a database each.
type servers interface {
	Brokers() []string
	RedisURL() string
	DatabaseURL(service string) string
	// Names are those that Kill and Restart take.
	Names() []string
	Kill(name string) error
	Restart(ctx context.Context, name string) error
	// PIDs are the process numbers of servers that are processes of their own, by name.
	PIDs() map[string]int
	// Env are further variables for programs that use the stack.
	Env() []string
	Stop(ctx context.Context) error
}

func (s *Stack) startServers(ctx context.Context) (servers, error) {
	if s.opts.Native == nil {
		return startEmbedded(ctx, s.opts)
	}
	started, err := native.Start(ctx, native.Options{
		Dir: filepath.Join(s.opts.Dir, "servers"), LogDir: s.opts.LogDir, Libs: s.opts.Native.Libs, Brokers: s.opts.Native.Brokers, JVM: s.opts.Native.JVM,
		KafkaPort: s.opts.KafkaPort, RedisPort: s.opts.RedisPort, PostgresPort: s.opts.PostgresPort, Databases: s.opts.Services,
		ReadyTimeout: s.opts.ReadyTimeout, StopTimeout: s.opts.StopTimeout, Exited: s.report, Advertise: s.opts.advertise,
	})
	if err != nil {
		return nil, err
	}
	n := nativeServers{started, s.opts.Native.Libs}
	if err := ensureTopics(ctx, n.Brokers()); err != nil {
		return nil, errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
	}
	return n, nil
}

// Topics are all of topics.yaml as an environment has them, one of events.Environments.
func Topics(environment string) ([]kafka.Topic, error) {
	declared := events.Topics()
	for i := range declared {
		var err error
		if declared[i], err = declared[i].In(environment); err != nil {
			return nil, err
		}
	}
	return kafka.Topics(declared), nil
}

// environment is that of topics.yaml which a cluster of so many brokers can hold.
func environment(brokers int) string {
	if brokers < 3 {
		return "development"
	}
	return "production"
}

func ensureTopics(ctx context.Context, brokers []string) error {
	topics, err := Topics(environment(len(brokers)))
	if err != nil {
		return err
	}
	admin, err := kafka.NewAdmin(kafka.Config{Brokers: brokers, ClientID: "stack"})
	if err != nil {
		return err
	}
	return errors.Join(admin.EnsureTopics(ctx, topics), admin.Close())
}

// nativeServers are package native's.
type nativeServers struct {
	*native.Servers
	libs string
}

func (n nativeServers) Env() []string {
	return []string{"POSTGRES_URL=" + n.PostgresURL(), "KAFKA_LIBS=" + n.libs}
}

// embedded are Kafka and Redis in this process, and a file a database.
type embedded struct {
	*devstack.Stack
	dir string
}

func startEmbedded(ctx context.Context, opts Options) (servers, error) {
	topics, err := Topics(environment(1))
	if err != nil {
		return nil, err
	}
	dev, err := devstack.Start(ctx, devstack.Config{
		Dir: filepath.Join(opts.Dir, "broker"), KafkaPort: opts.KafkaPort, RedisPort: opts.RedisPort,
		Topics: topics, Logger: opts.Logger, Advertise: func(addr string) (string, error) { return opts.advertise("kafka-1", addr) },
	})
	if err != nil {
		return nil, err
	}
	return embedded{dev, opts.Dir}, nil
}

func (e embedded) DatabaseURL(service string) string {
	return "sqlite:" + filepath.Join(e.dir, service+".db")
}

func (e embedded) Names() []string { return nil }

func (e embedded) PIDs() map[string]int { return map[string]int{} }

func (e embedded) Kill(name string) error {
	return fmt.Errorf("%s is embedded, only native servers can be killed", name)
}

func (e embedded) Restart(_ context.Context, name string) error { return e.Kill(name) }

func (e embedded) Env() []string { return nil }

func (e embedded) Stop(context.Context) error { return e.Stack.Stop() }
