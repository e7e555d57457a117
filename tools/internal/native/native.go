// Package native runs Apache Kafka, Redis and PostgreSQL on this machine as private servers: their data in one folder,
// their ports on 127.0.0.1, nothing shared with servers that the system runs.
//
//	s, err := native.Start(ctx, native.Options{Dir: dir, Libs: libs, Databases: []string{"order"}})
//	…
//	err = s.Kill("kafka-1")          // as a machine that loses power
//	err = s.Restart(ctx, "kafka-1")  // back on the same port with the same data
//	err = s.Stop(ctx)
//
// It promises that Start returns only when every server serves, or an error that shows the last lines of the log of the
// one that does not; that a folder is used again with the data that are in it, also after a crash; and that nothing is
// left running after Stop, nor, on Linux, after this process is gone in whatever way. Kafka is one node, or three with
// three copies of everything, each broker and controller at once. PostgreSQL has a database and a login for each name
// in Options.Databases, and keeps its promise to write to disk before it answers (fsync).
package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

// Options are servers as they should be.
type Options struct {
	// Dir keeps data and settings; it is created.
	Dir string
	// LogDir is where each server's log goes; it must be there.
	LogDir string
	// Libs is the folder of Kafka's jars.
	Libs string
	// Brokers is the number of Kafka nodes, 1 or 3. A folder stays with its first number.
	Brokers int
	// JVM are the settings of Kafka's JVM; nil means quick to start and small. KAFKA_JVM_OPTS goes over both.
	JVM []string
	// KafkaPort is the first broker's, the others follow; 0 takes free ones, here and for the other servers.
	KafkaPort, RedisPort, PostgresPort int
	// Advertise, if set, is given a broker's name and address and returns the address that it tells clients and the other
	// brokers: that of a proxy in front of it.
	Advertise func(name, addr string) (string, error)
	// Databases are the names of databases, each with a login of its own.
	Databases []string
	// ReadyTimeout is how long a server may take to serve, StopTimeout how long to stop.
	ReadyTimeout, StopTimeout time.Duration
	// Exited, if set, hears of a server that went down without being told to.
	Exited func(name, state, log string)
}

// Servers are running servers. Its methods may be called from several goroutines.
type Servers struct {
	opts     Options
	brokers  []string
	redis    string
	postgres *postgres

	// mu guards what follows while the servers are being prepared.
	mu      sync.Mutex
	names   []string
	servers map[string]*server
}

// server is one server: a process, and how to tell that it serves.
type server struct {
	*process.Process
	serves func(ctx context.Context) error
}

// Missing names what the native stack needs and this machine lacks, empty when all is there.
func Missing(libs string) []string {
	var missing []string
	if _, err := javaPath(); err != nil {
		missing = append(missing, "java")
	}
	if jars, err := filepath.Glob(filepath.Join(libs, "kafka_2.13-*.jar")); err != nil || len(jars) == 0 {
		missing = append(missing, "Kafka's jars")
	}
	if _, err := redisPath(); err != nil {
		missing = append(missing, "redis-server")
	}
	if _, err := postgresBin(); err != nil {
		missing = append(missing, "PostgreSQL's server")
	}
	return missing
}

// Start starts every server and returns when all serve. On an error nothing is left running.
func Start(ctx context.Context, opts Options) (_ *Servers, err error) {
	if opts.Brokers != 1 && opts.Brokers != 3 {
		return nil, fmt.Errorf("%d brokers, must be 1 or 3", opts.Brokers)
	}
	if missing := Missing(opts.Libs); len(missing) > 0 {
		return nil, fmt.Errorf("the native stack needs %s: run `make native-deps`", strings.Join(missing, ", "))
	}
	if err := os.MkdirAll(opts.Dir, 0o750); err != nil {
		return nil, err
	}
	s := &Servers{opts: opts, servers: map[string]*server{}}
	defer func() {
		if err != nil {
			for _, server := range s.servers {
				err = errors.Join(err, server.Kill())
			}
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	free, err := opts.ports()
	if err != nil {
		return nil, err
	}
	prepare := []func(ctx context.Context) error{
		func(ctx context.Context) error { return s.prepareKafka(ctx, free) },
		func(ctx context.Context) error { return s.prepareRedis(free.redis) },
		func(ctx context.Context) error { return s.preparePostgres(ctx, free.postgres) },
	}
	if err := process.Together(ctx, len(prepare), func(ctx context.Context, i int) error { return prepare[i](ctx) }); err != nil {
		return nil, err
	}
	err = process.Together(ctx, len(s.names), func(ctx context.Context, i int) error { return s.Restart(ctx, s.names[i]) })
	if err != nil {
		return nil, err
	}
	return s, s.postgres.provide(ctx, opts.Databases)
}

// ports are those of a start.
type ports struct {
	kafka, controllers []int
	redis, postgres    int
}

func (o Options) ports() (p ports, err error) {
	free, err := loopback.Ports(2*o.Brokers + 2)
	if err != nil {
		return p, err
	}
	p.kafka, p.controllers = free[:o.Brokers], free[o.Brokers:2*o.Brokers]
	p.redis, p.postgres = free[2*o.Brokers], free[2*o.Brokers+1]
	var errs []error
	if o.KafkaPort != 0 {
		for i := range p.kafka {
			p.kafka[i] = o.KafkaPort + i
			errs = append(errs, loopback.Check(p.kafka[i], "kafka"))
		}
	}
	if o.RedisPort != 0 {
		p.redis = o.RedisPort
		errs = append(errs, loopback.Check(p.redis, "redis"))
	}
	if o.PostgresPort != 0 {
		p.postgres = o.PostgresPort
		errs = append(errs, loopback.Check(p.postgres, "postgres"))
	}
	return p, errors.Join(errs...)
}

// add registers a server that is down.
func (s *Servers) add(cfg process.Config, serves func(ctx context.Context) error) {
	cfg.Log = filepath.Join(s.opts.LogDir, cfg.Name+".log")
	cfg.StopTimeout = s.opts.StopTimeout
	if s.opts.Exited != nil {
		cfg.Exited = func(state, log string) { s.opts.Exited(cfg.Name, state, log) }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers[cfg.Name] = &server{Process: process.New(cfg), serves: serves}
	s.names = append(s.names, cfg.Name)
	slices.Sort(s.names)
}

// Names are the servers: kafka-1 and so on, redis, postgres.
func (s *Servers) Names() []string { return s.names }

// PIDs are the process numbers of the servers that are up, by name. PostgreSQL's has children.
func (s *Servers) PIDs() map[string]int {
	pids := map[string]int{}
	for name, server := range s.servers {
		if pid := server.PID(); pid != 0 {
			pids[name] = pid
		}
	}
	return pids
}

// Brokers are the addresses that Kafka advertises.
func (s *Servers) Brokers() []string { return s.brokers }

// RedisURL is Redis's address.
func (s *Servers) RedisURL() string { return s.redis }

// DatabaseURL is the database of that name, with its login.
func (s *Servers) DatabaseURL(name string) string { return s.postgres.url(name, name) }

// PostgresURL is the server with the login of its superuser.
func (s *Servers) PostgresURL() string { return s.postgres.url("postgres", "postgres") }

// Restart starts a server, after stopping it if it is up, and returns when it serves.
func (s *Servers) Restart(ctx context.Context, name string) error {
	server, err := s.find(name)
	if err != nil {
		return err
	}
	if err := server.Stop(ctx); err != nil {
		return err
	}
	life, err := server.Start()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ReadyTimeout)
	defer cancel()
	return server.WaitReady(ctx, life, server.serves)
}

// Kill ends a server with SIGKILL and returns when it is gone. One that is down stays down.
func (s *Servers) Kill(name string) error {
	server, err := s.find(name)
	if err != nil {
		return err
	}
	return server.Kill()
}

func (s *Servers) find(name string) (*server, error) {
	server, ok := s.servers[name]
	if !ok {
		return nil, fmt.Errorf("there is no server %q, must be one of %s", name, strings.Join(s.names, ", "))
	}
	return server, nil
}

// Stop stops all servers. It may be called more than once.
func (s *Servers) Stop(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.names))
	for i, name := range s.names {
		wg.Go(func() { errs[i] = s.servers[name].Close(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
