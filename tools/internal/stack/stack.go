package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/devstack"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
)

// Options is a stack as it should be.
type Options struct {
	// Bin is the folder of the services' binaries, each named as its service.
	Bin string
	// Dir keeps the databases, the broker's and Redis's files, and the logs; it is created.
	Dir string
	// LogDir is where each service's log goes; empty means Dir/logs. A log is appended to.
	LogDir string
	// Services are the ones to run; nil means all six.
	Services []string
	// BasePort is the port of the first service, the others follow; 0 takes free ones.
	BasePort int
	// KafkaPort and RedisPort are ports on 127.0.0.1; 0 takes free ones.
	KafkaPort, RedisPort int
	// Env are settings of a service ("NAME=value") by its name, those under "" are every service's. They go over this
	// process's own environment, which the services inherit.
	Env map[string][]string
	// ReadyTimeout is how long a service may take to become ready; 0 means a minute.
	ReadyTimeout time.Duration
	// StopTimeout is how long a service may take to stop before it is killed; 0 means 20 s.
	StopTimeout time.Duration
	// Logger hears what the embedded servers cannot return; nil means nobody.
	Logger *slog.Logger
}

// Exit is a service that went down without being told to.
type Exit struct {
	Service string
	// State says how: "exit status 1", "signal: killed".
	State string
	// Log are the last lines of its log.
	Log string
}

// Stack is a running system. Its methods may be called from several goroutines.
type Stack struct {
	opts     Options
	dev      *devstack.Stack
	http     *http.Client
	services map[string]*process
	exits    chan Exit
	watchers sync.WaitGroup
}

// Start starts everything and returns when every service is ready. On an error nothing is left running.
func Start(ctx context.Context, opts Options) (_ *Stack, err error) {
	if opts, err = opts.withDefaults(); err != nil {
		return nil, err
	}
	ports, err := opts.ports()
	if err != nil {
		return nil, err
	}
	binaries, err := opts.binaries()
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{opts.Dir, opts.LogDir} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, err
		}
	}
	s := &Stack{
		opts: opts, http: &http.Client{Timeout: 3 * time.Second}, services: map[string]*process{},
		exits: make(chan Exit, 16),
	}
	defer func() {
		if err != nil {
			// Without asking: a service that is half way up has nothing to finish, and its complaints would hide the cause.
			for _, p := range s.services {
				err = errors.Join(err, p.kill())
			}
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	topics, err := Topics("development")
	if err != nil {
		return nil, err
	}
	s.dev, err = devstack.Start(ctx, devstack.Config{
		Dir: filepath.Join(opts.Dir, "broker"), KafkaPort: opts.KafkaPort, RedisPort: opts.RedisPort,
		Topics: topics, Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	for _, name := range opts.Services {
		s.services[name] = &process{
			name: name, binary: binaries[name], addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[name])),
			logPath: filepath.Join(opts.LogDir, name+".log"), stopTimeout: opts.StopTimeout,
			exited: func(state, log string) { s.report(Exit{Service: name, State: state, Log: log}) },
		}
		s.services[name].env = s.serviceEnv(name)
	}
	return s, s.startAll(ctx)
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

// startAll starts the services side by side; the first that fails ends the wait for the others.
func (s *Stack) startAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for name := range s.services {
		wg.Go(func() {
			if err := s.Restart(ctx, name); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Restart starts a service, after stopping it if it is up, and returns when it is ready.
func (s *Stack) Restart(ctx context.Context, name string) error {
	p, err := s.find(name)
	if err != nil {
		return err
	}
	if err := p.stop(ctx); err != nil {
		return err
	}
	life, err := p.start(&s.watchers)
	if err != nil {
		return err
	}
	return s.waitReady(ctx, p, life)
}

// Kill ends a service with SIGKILL and returns when it is gone. One that is down stays down.
func (s *Stack) Kill(name string) error {
	p, err := s.find(name)
	if err != nil {
		return err
	}
	return p.kill()
}

// Exits reports services that went down without being told to. It holds a few reports; more are dropped while nobody
// reads.
func (s *Stack) Exits() <-chan Exit { return s.exits }

// URL is a service's base URL, empty for one that the stack does not run.
func (s *Stack) URL(name string) string {
	if p, ok := s.services[name]; ok {
		return "http://" + p.addr
	}
	return ""
}

// Brokers are Kafka's addresses.
func (s *Stack) Brokers() []string { return s.dev.Brokers() }

// RedisURL is Redis's address.
func (s *Stack) RedisURL() string { return s.dev.RedisURL() }

// LogPath is the file with a service's log.
func (s *Stack) LogPath(name string) string { return filepath.Join(s.opts.LogDir, name+".log") }

// Env are the variables, "NAME=value", by which programs find the stack: ORDER_URL and the like, KAFKA_BROKERS, REDIS_URL.
func (s *Stack) Env() []string {
	env := s.brokerEnv()
	for _, name := range s.opts.Services {
		env = append(env, client.Variable(name)+"="+s.URL(name))
	}
	return env
}

// Stop stops the services as they stop in production, then the broker and Redis. What has not stopped in time, or when
// ctx ends, is killed and named in the error. It may be called more than once.
func (s *Stack) Stop(ctx context.Context) error {
	errs := make([]error, len(s.opts.Services)+1)
	var wg sync.WaitGroup
	for i, name := range s.opts.Services {
		if p, ok := s.services[name]; ok {
			p.close()
			wg.Go(func() { errs[i] = p.stop(ctx) })
		}
	}
	wg.Wait()
	s.watchers.Wait()
	s.http.CloseIdleConnections()
	if s.dev != nil {
		errs[len(errs)-1] = s.dev.Stop()
	}
	return errors.Join(errs...)
}

func (s *Stack) find(name string) (*process, error) {
	p, ok := s.services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %q, must be one of %s", name, strings.Join(s.opts.Services, ", "))
	}
	return p, nil
}

func (s *Stack) report(e Exit) {
	select {
	case s.exits <- e:
	default:
	}
}

func (s *Stack) brokerEnv() []string {
	return []string{"KAFKA_BROKERS=" + strings.Join(s.dev.Brokers(), ","), "REDIS_URL=" + s.dev.RedisURL()}
}

func (s *Stack) serviceEnv(name string) []string {
	return slices.Concat(os.Environ(), s.brokerEnv(), []string{
		"HTTP_ADDR=" + s.services[name].addr,
		"DATABASE_URL=sqlite:" + filepath.Join(s.opts.Dir, name+".db"),
		"LOG_FORMAT=text",
		// A name that lasts lets the broker hand a killed service its partitions back at once.
		"INSTANCE_ID=" + name + "-1",
	}, s.opts.Env[""], s.opts.Env[name])
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
