package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
	"github.com/orderflow/orderflow/tools/topics"
)

// Bounds of a run.
const (
	// startTimeout is for the start, in which images may have to be built, runTimeout for the play, stopTimeout for the
	// stop after it.
	startTimeout = 20 * time.Minute
	runTimeout   = 3 * time.Minute
	stopTimeout  = 30 * time.Second
	// endTimeout is how long an order may take to end, or a thing to show.
	endTimeout = 45 * time.Second
	// booksTimeout is how long the listeners may lag behind.
	booksTimeout = 20 * time.Second
)

// Settings make what takes long in production short enough to watch.
func Settings() map[string][]string {
	return map[string][]string{
		"":         {"CONSUMER_BACKOFF_INITIAL=50ms", "CONSUMER_BACKOFF_MAX=400ms", "LOG_LEVEL=info"},
		"order":    {"SAGA_STEP_DEADLINE=6s", "SAGA_UNDO_DEADLINE=4s", "SAGA_TIMER_POLL=100ms"},
		"payment":  {"PAYMENT_PROVIDER_TIMEOUT=800ms", "PAYMENT_SANDBOX_SLOW=400ms"},
		"shipping": {"CARRIER_TIMEOUT=800ms", "CARRIER_SANDBOX_SLOW=400ms"},
	}
}

// Config is a run as it should be.
type Config struct {
	// Start starts the system to show, with Settings for its services.
	Start func(ctx context.Context) (System, error)
	// Orders is how many mixed orders are placed at once.
	Orders int
	// Seed makes the random choices.
	Seed uint64
	// Progress hears what is being done.
	Progress func(format string, args ...any)
}

// System is a whole Orderflow that a run starts, breaks and stops: *stack.Stack is one, *compose.Stack another.
type System interface {
	URL(service string) string
	Brokers() []string
	RedisURL() string
	// Servers are what Kill and Restart take besides services.
	Servers() []string
	Kill(name string) error
	Restart(ctx context.Context, name string) error
	Exits() <-chan stack.Exit
	Stop(ctx context.Context) error
}

// show is a run at work.
type show struct {
	cfg    Config
	began  time.Time
	stack  System
	system *client.System
	topics *topics.Client

	mu     sync.Mutex
	report Report
}

// Run runs the demo. The error is about running it; what went otherwise than expected is in the report.
func Run(caller context.Context, cfg Config) (report Report, err error) {
	starting, started := context.WithTimeout(caller, startTimeout)
	defer started()
	s := &show{cfg: cfg, began: time.Now(), report: Report{Seed: cfg.Seed}}
	cfg.Progress("starting Kafka, Redis and six services")
	if s.stack, err = cfg.Start(starting); err != nil {
		return s.report, err
	}
	ctx, cancel := context.WithTimeout(caller, runTimeout)
	defer cancel()
	defer func() {
		cfg.Progress("stopping")
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		if stopped := s.stack.Stop(stop); stopped != nil {
			s.fail("stop: %s", stopped)
			err = errors.Join(err, stopped)
		}
		s.report.Took = s.since()
		s.report.OK = len(s.report.Failures) == 0
		report = s.report
	}()
	if err := s.connect(); err != nil {
		return s.report, err
	}
	defer s.system.Close()
	defer s.topics.Close() //nolint:errcheck // only read and sent to
	s.report.Ready = s.since()
	cfg.Progress("ready after %.1f s", s.report.Ready)
	if err := s.perform(ctx); err != nil {
		s.fail("%s", err) // what was seen until then is worth showing
	}
	return s.report, nil
}

func (s *show) connect() error {
	addresses := client.Addresses{URLs: map[string]string{}, Brokers: s.stack.Brokers(), RedisURL: s.stack.RedisURL()}
	for _, service := range client.Services() {
		addresses.URLs[service] = s.stack.URL(service)
	}
	var err error
	if s.system, err = client.New(addresses); err != nil {
		return err
	}
	s.topics, err = topics.Open(addresses.Brokers)
	return err
}

// perform is the play: the scenarios and the live customer from the beginning, the load and the crash once the scenarios
// that a crash would disturb are through, then what is left over, then the books.
func (s *show) perform(ctx context.Context) error {
	live, err := s.follow(ctx, liveCustomer)
	if err != nil {
		return err
	}
	s.cfg.Progress("one order for every branch, a poison record, and a customer followed live")
	quick, silent := s.scenarios()
	var calm, all sync.WaitGroup
	s.report.Scenarios = make([]Scenario, len(quick)+len(silent))
	for i, sc := range append(quick, silent...) {
		group := &all
		if i < len(quick) {
			group = &calm
		}
		group.Go(func() { s.report.Scenarios[i] = s.play(ctx, sc) })
	}
	all.Go(func() { s.poison(ctx) })
	calm.Wait()
	s.duplicate(ctx)

	s.cfg.Progress("%d mixed orders at once, and SIGKILL to %s in the middle", s.cfg.Orders, strings.Join(s.victims(), " and "))
	s.load(ctx, rand.New(rand.NewPCG(s.cfg.Seed, 1)))
	s.cfg.Progress("waiting for the silent participants' deadlines")
	all.Wait()
	for _, sc := range s.report.Scenarios {
		for _, wrong := range sc.Wrong {
			s.fail("scenario %q: %s", sc.Name, wrong)
		}
	}
	s.hear(ctx, live)
	s.cfg.Progress("redriving and discarding the dead letters")
	s.letters(ctx)
	s.unexpectedExits()

	s.cfg.Progress("reading the books")
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	if s.report.Books, err = books.Settle(ctx, s.system, books.Options{}); err != nil {
		return err
	}
	if err := s.report.Books.Err(); err != nil {
		s.fail("the books: %s", err)
	}
	return nil
}

// fail notes something that is not as expected.
func (s *show) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Failures = append(s.report.Failures, fmt.Sprintf(format, args...))
}

func (s *show) since() float64 { return time.Since(s.began).Seconds() }

// until waits for something to show.
func (s *show) until(ctx context.Context, done func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return client.Eventually(ctx, done)
}

// unexpectedExits names services that went down by themselves.
func (s *show) unexpectedExits() {
	for {
		select {
		case exit := <-s.stack.Exits():
			s.fail("%s went down (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log)
		default:
			return
		}
	}
}
