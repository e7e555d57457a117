package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/stack"
)

// upCmd runs a system until it is told to stop. A service or server that goes down is started again, as whatever runs services
// in production does.
type upCmd struct {
	stackFlags   `embed:""`
	Dir          string   `help:"Folder of databases, the servers' files and logs; what is in it is gone on with. Default: .data/embedded, or 'up' in --native-dir." type:"path"`
	Bin          string   `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	BasePort     int      `help:"Port of the order service; the other services follow." default:"8080"`
	KafkaPort    int      `help:"Port of Kafka; further brokers follow." default:"19092"`
	RedisPort    int      `help:"Port of Redis." default:"16379"`
	PostgresPort int      `help:"Port of PostgreSQL, of the native stack." default:"15432"`
	Set          []string `help:"A setting for every service, or with 'service:' in front for one." placeholder:"[SERVICE:]NAME=VALUE" sep:"none"`
}

// Run blocks until ctx ends. When such a system is running already, it says so and leaves it alone.
func (u upCmd) Run(ctx context.Context, c console) error {
	env, err := settings(u.Set)
	if err != nil {
		return err
	}
	if u.Dir == "" {
		u.Dir = u.dir()
	}
	opts, err := u.options(u.Bin, u.Dir, env)
	if err != nil {
		return err
	}
	opts.BasePort, opts.KafkaPort, opts.RedisPort = u.BasePort, u.KafkaPort, u.RedisPort
	opts.Logger = slog.New(slog.NewTextHandler(c.err, nil))
	if u.Stack == "native" {
		opts.PostgresPort = u.PostgresPort
	}
	began := time.Now()
	s, err := stack.Start(ctx, opts)
	var taken *loopback.PortTaken
	switch {
	case errors.Is(err, stack.ErrRunning):
		say(c.out, "%s. `make down` stops it.\n", err)
		return nil
	case errors.As(err, &taken):
		return fmt.Errorf("%w\nstop what listens there, or choose other ports with --base-port, --kafka-port, --redis-port and --postgres-port", err)
	case err != nil:
		return err
	}
	say(c.out, "Orderflow is up after %.1f s.\n\n", time.Since(began).Seconds())
	for _, name := range client.Services() {
		say(c.out, "  %-13s %s\n", name, s.URL(name))
	}
	say(c.out, "  %-13s %s\n  %-13s %s\n\n", "kafka", strings.Join(s.Brokers(), ","), "redis", s.RedisURL())
	say(c.out, "Data and logs are in %s. Ctrl-C stops everything.\n", u.Dir)

	err = u.watch(ctx, c, s)
	say(c.out, "\nStopping.\n")
	// A new context: this one has ended. Stop is bounded by itself.
	return errors.Join(err, s.Stop(context.Background()))
}

// watch starts again what goes down, until ctx ends or a service does not become ready any more.
func (upCmd) watch(ctx context.Context, c console, s *stack.Stack) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case exit := <-s.Exits():
			say(c.err, "%s went down (%s); its log ends:\n%s\n", exit.Name, exit.State, exit.Log)
			if err := s.Restart(ctx, exit.Name); err != nil && ctx.Err() == nil {
				return err
			}
			say(c.err, "%s was started again.\n", exit.Name)
		}
	}
}

// settings reads "NAME=value" and "service:NAME=value" into environments by service.
func settings(set []string) (map[string][]string, error) {
	env := map[string][]string{}
	for _, s := range set {
		name, _, ok := strings.Cut(s, "=")
		service, variable, own := strings.Cut(name, ":")
		if !own {
			service, variable = "", name
		}
		if !ok || variable == "" {
			return nil, fmt.Errorf("--set %q must be NAME=value or service:NAME=value", s)
		}
		if own && !slices.Contains(client.Services(), service) {
			return nil, fmt.Errorf("--set %q names no service, must be one of %s", s, strings.Join(client.Services(), ", "))
		}
		env[service] = append(env[service], strings.TrimPrefix(s, service+":"))
	}
	return env, nil
}
