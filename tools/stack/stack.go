package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

// Options is a stack as it should be.
type Options struct {
	// Bin is the folder of the services' binaries, each named as its service.
	Bin string
	// Dir keeps the databases, the broker's and Redis's files, and the logs; it is created.
	Dir string
	// LogDir is where each service's log goes; empty means Dir/logs. A log is appended to.
	LogDir string
	// Services are the ones to run; nil means all six, an empty list none: then it is the servers alone.
	Services []string
	// Replicas is how many of each service run; 0 means one. The first has the service's name, the others payment-2 and
	// so on, for Kill, Restart and URL. They share the service's database.
	Replicas int
	// Native has Apache Kafka, Redis and PostgreSQL run instead of the embedded servers; nil means embedded.
	Native *Native
	// BasePort is the port of the first service, the others follow; 0 takes free ones.
	BasePort int
	// KafkaPort, RedisPort and PostgresPort are ports on 127.0.0.1; 0 takes free ones.
	KafkaPort, RedisPort, PostgresPort int
	// Env are settings of a service ("NAME=value") by its name, those under "" are every service's. They go over this
	// process's own environment, which the services inherit.
	Env map[string][]string
	// Between, if set, is given the address of a server ("kafka-1", "redis", "postgres") and the service that is to use it,
	// and returns that of what stands between them, a proxy that can be broken. Kafka's is the same for everybody, and
	// comes without a service: clients connect to what the brokers advertise. Env has the other servers' own addresses.
	Between func(service, server, addr string) (string, error)
	// ReadyTimeout is how long a service or a server may take to become ready; 0 means a minute.
	ReadyTimeout time.Duration
	// StopTimeout is how long one may take to stop before it is killed; 0 means 20 s.
	StopTimeout time.Duration
	// Logger hears what the embedded servers cannot return; nil means nobody.
	Logger *slog.Logger
}

// afterCrash is how long what a crash left behind may take to be gone.
const afterCrash = 5 * time.Second

// Native says how the native servers run.
type Native struct {
	// Libs is the folder of Kafka's jars.
	Libs string
	// Brokers is the number of Kafka nodes: 1 or 3.
	Brokers int
	// JVM are the settings of Kafka's JVM; nil means quick to start and small.
	JVM []string
}

// Exit is a service or a server that went down without being told to.
type Exit struct {
	Name string
	// State says how: "exit status 1", "signal: killed".
	State string
	// Log are the last lines of its log.
	Log string
}

// Stack is a running system. Its methods may be called from several goroutines.
type Stack struct {
	opts     Options
	lock     *os.File
	servers  servers
	http     *http.Client
	services map[string]*service
	exits    chan Exit
}

// service is a process with its address.
type service struct {
	*process.Process
	addr string
}

// Start starts everything and returns when every service is ready. On an error nothing is left running.
func Start(ctx context.Context, opts Options) (_ *Stack, err error) {
	if opts, err = opts.withDefaults(); err != nil {
		return nil, err
	}
	for _, dir := range []string{opts.Dir, opts.LogDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
	}
	s := &Stack{
		opts: opts, http: &http.Client{Timeout: 3 * time.Second}, services: map[string]*service{},
		exits: make(chan Exit, 16),
	}
	var crashed bool
	if s.lock, crashed, err = take(opts.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			// Without asking: a service that is half way up has nothing to finish, and its complaints would hide the cause.
			for _, p := range s.services {
				err = errors.Join(err, p.Kill())
			}
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	ports, err := opts.ports()
	// What was killed with a stack that crashed needs a moment to go.
	for end := time.Now().Add(afterCrash); crashed && err != nil && time.Now().Before(end); ports, err = opts.ports() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(afterCrash / 50):
		}
	}
	if err != nil {
		return nil, err
	}
	binaries, err := opts.binaries()
	if err != nil {
		return nil, err
	}
	if s.servers, err = s.startServers(ctx); err != nil {
		return nil, err
	}
	replicas := opts.replicas()
	for i, r := range replicas {
		addr := loopback.Address(ports[i])
		env, err := s.serviceEnv(r, addr)
		if err != nil {
			return nil, err
		}
		s.services[r.name] = &service{addr: addr, Process: process.New(process.Config{
			Name: r.name, Path: binaries[r.service], Env: env, Log: s.LogPath(r.name), StopTimeout: opts.StopTimeout,
			Exited: func(state, log string) { s.report(r.name, state, log) },
		})}
	}
	return s, process.Together(ctx, len(replicas), func(ctx context.Context, i int) error {
		return s.Restart(ctx, replicas[i].name)
	})
}

// replica is one process of a service.
type replica struct {
	name, service string
	number        int
}

// replicas are the first of each service, then the second, and so on.
func (o Options) replicas() (all []replica) {
	for number := range max(o.Replicas, 1) {
		for _, name := range o.Services {
			r := replica{name: name, service: name, number: number + 1}
			if number > 0 {
				r.name += "-" + strconv.Itoa(r.number)
			}
			all = append(all, r)
		}
	}
	return all
}

// Restart starts a service or a server, after stopping it if it is up, and returns when it is ready.
func (s *Stack) Restart(ctx context.Context, name string) error {
	p, ok := s.services[name]
	if !ok {
		return s.server(name, func() error { return s.servers.Restart(ctx, name) })
	}
	if err := p.Stop(ctx); err != nil {
		return err
	}
	life, err := p.Start()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ReadyTimeout)
	defer cancel()
	return p.WaitReady(ctx, life, func(ctx context.Context) error { return s.ask(ctx, p.addr) })
}

// Kill ends a service or a server with SIGKILL and returns when it is gone. One that is down stays down.
func (s *Stack) Kill(name string) error {
	p, ok := s.services[name]
	if !ok {
		return s.server(name, func() error { return s.servers.Kill(name) })
	}
	return p.Kill()
}

// server calls fn if there is a server of that name.
func (s *Stack) server(name string, fn func() error) error {
	if !slices.Contains(s.servers.Names(), name) {
		return fmt.Errorf("there is no service or server %q, must be one of %s",
			name, strings.Join(slices.Concat(s.opts.Services, s.servers.Names()), ", "))
	}
	return fn()
}

// Exits reports services and servers that went down without being told to. It holds a few reports; more are dropped
// while nobody reads.
func (s *Stack) Exits() <-chan Exit { return s.exits }

// URL is a service's base URL, empty for one that the stack does not run.
func (s *Stack) URL(name string) string {
	if p, ok := s.services[name]; ok {
		return "http://" + p.addr
	}
	return ""
}

// Brokers are the addresses that Kafka advertises.
func (s *Stack) Brokers() []string { return s.servers.Brokers() }

// Servers are the names of the servers that Kill and Restart take besides services: none of the embedded ones.
func (s *Stack) Servers() []string { return s.servers.Names() }

// PIDs are the process numbers of the services and native servers that are up, by name.
func (s *Stack) PIDs() map[string]int {
	pids := s.servers.PIDs()
	for name, p := range s.services {
		if pid := p.PID(); pid != 0 {
			pids[name] = pid
		}
	}
	return pids
}

// RedisURL is Redis's address.
func (s *Stack) RedisURL() string { return s.servers.RedisURL() }

// DatabaseURL is a service's DATABASE_URL.
func (s *Stack) DatabaseURL(service string) string { return s.servers.DatabaseURL(service) }

// LogPath is the file with a service's or a server's log.
func (s *Stack) LogPath(name string) string { return filepath.Join(s.opts.LogDir, name+".log") }

// Env are the variables, "NAME=value", by which programs find the stack: ORDER_URL and the like, KAFKA_BROKERS,
// REDIS_URL, and on native servers POSTGRES_URL, with the superuser's login, and KAFKA_LIBS, Kafka's jars.
func (s *Stack) Env() []string {
	env := slices.Concat(s.brokerEnv(), s.servers.Env())
	for _, name := range s.opts.Services {
		env = append(env, client.Variable(name)+"="+s.URL(name))
	}
	return env
}

// StopServices stops the services for good, as they stop in production, and leaves the servers up. What has not stopped in
// time, or when ctx ends, is killed and named in the error. It may be called more than once.
func (s *Stack) StopServices(ctx context.Context) error {
	errs := make([]error, len(s.services))
	var wg sync.WaitGroup
	for i, name := range slices.Sorted(maps.Keys(s.services)) {
		wg.Go(func() { errs[i] = s.services[name].Close(ctx) })
	}
	wg.Wait()
	s.http.CloseIdleConnections()
	return errors.Join(errs...)
}

// Stop is StopServices, and stops the servers after that.
func (s *Stack) Stop(ctx context.Context) error {
	err := s.StopServices(ctx)
	if s.servers != nil {
		err = errors.Join(err, s.servers.Stop(ctx))
	}
	if s.lock != nil {
		err = errors.Join(err, release(s.lock))
		s.lock = nil
	}
	return err
}

func (s *Stack) report(name, state, log string) {
	select {
	case s.exits <- Exit{Name: name, State: state, Log: log}:
	default:
	}
}

func (s *Stack) brokerEnv() []string {
	return []string{"KAFKA_BROKERS=" + strings.Join(s.Brokers(), ","), "REDIS_URL=" + s.RedisURL()}
}

func (s *Stack) serviceEnv(r replica, addr string) ([]string, error) {
	redis, err := s.between(r.service, "redis", s.RedisURL())
	if err != nil {
		return nil, err
	}
	database := s.servers.DatabaseURL(r.service)
	if s.opts.Native != nil { // embedded, it is a file
		if database, err = s.between(r.service, "postgres", database); err != nil {
			return nil, err
		}
	}
	return slices.Concat(os.Environ(), s.brokerEnv(), []string{
		"HTTP_ADDR=" + addr,
		"REDIS_URL=" + redis,
		"DATABASE_URL=" + database,
		"LOG_FORMAT=text",
		// A name that lasts lets the broker hand a killed service its partitions back at once.
		"INSTANCE_ID=" + r.service + "-" + strconv.Itoa(r.number),
	}, s.opts.Env[""], s.opts.Env[r.service]), nil
}

// between is a server's URL for a service.
func (s *Stack) between(service, server, own string) (string, error) {
	if s.opts.Between == nil {
		return own, nil
	}
	u, err := url.Parse(own)
	if err == nil {
		u.Host, err = s.opts.Between(service, server, u.Host)
	}
	if err != nil {
		return "", fmt.Errorf("what is between %s and %s: %w", service, server, err)
	}
	return u.String(), nil
}

// advertise is what a broker at addr tells its clients.
func (o Options) advertise(broker, addr string) (string, error) {
	if o.Between == nil {
		return addr, nil
	}
	return o.Between("", broker, addr)
}

// ports chooses the services' ports and checks all that are asked for, so that one run names every one that is taken.
func (o Options) ports() ([]int, error) {
	errs := []error{
		loopback.Check(o.KafkaPort, "kafka"), loopback.Check(o.RedisPort, "redis"), loopback.Check(o.PostgresPort, "postgres"),
	}
	replicas := o.replicas()
	if o.BasePort == 0 {
		ports, err := loopback.Ports(len(replicas))
		return ports, errors.Join(append(errs, err)...)
	}
	ports := make([]int, len(replicas))
	for i, r := range replicas {
		ports[i] = o.BasePort + i
		errs = append(errs, loopback.Check(ports[i], r.name))
	}
	return ports, errors.Join(errs...)
}

func (o Options) withDefaults() (Options, error) {
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, err
	}
	if o.Services == nil {
		o.Services = client.Services()
	}
	if o.LogDir == "" {
		o.LogDir = filepath.Join(o.Dir, "logs")
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = time.Minute
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 20 * time.Second
	}
	return o, nil
}

func (o Options) binaries() (map[string]string, error) {
	paths, missing := map[string]string{}, []string(nil)
	for _, name := range o.Services {
		// Absolute: a bare name would be looked for in PATH.
		path, err := filepath.Abs(filepath.Join(o.Bin, name))
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			missing = append(missing, name)
		}
		paths[name] = path
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("no binaries of %s in %s: build them with `make build`, or name their folder", strings.Join(missing, ", "), o.Bin)
	}
	return paths, nil
}
