package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/service"
)

// TestMain makes this binary a service of its own when a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("AS_SERVICE") == "" {
		goleak.VerifyTestMain(m)
		return
	}
	service.Main("shop", func(_ context.Context, _ config, rt *service.Runtime) error {
		rt.Consume("consumer", func(ctx context.Context) error {
			<-ctx.Done()
			if os.Getenv("AS_SERVICE") == "stuck" {
				select {}
			}
			return nil
		})
		return nil
	})
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{"sound": 0, "stuck": 1} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			out := &output{}
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(environ[:len(environ):len(environ)], "AS_SERVICE="+kind, "SHUTDOWN_TIMEOUT=10m")
			cmd.Stderr = out
			require.NoError(t, cmd.Start())
			says := func(text string) {
				require.Eventually(t, func() bool { return strings.Contains(out.String(), text) }, 10*time.Second, time.Millisecond)
			}
			says(`"msg":"running"`)
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			says(`"msg":"draining"`)
			if kind == "stuck" {
				require.NoError(t, cmd.Process.Signal(os.Interrupt))
			}
			err := cmd.Wait()
			require.Equal(t, want, cmd.ProcessState.ExitCode(), "%v\n%s", err, out)
		})
	}
}

type config struct {
	service.Base
	Attempts int           `env:"ATTEMPTS" envDefault:"3" desc:"attempts, 1 to 9"`
	Wait     time.Duration `env:"WAIT" envDefault:"1s" desc:"how long to wait"`
	APIKey   string        `env:"API_KEY" secret:"true" desc:"the provider's key"`
	Nested   nested
}

func (config) Defaults() map[string]string { return map[string]string{"HTTP_ADDR": ":8081"} }

type nested struct {
	Floor int `env:"FLOOR" envDefault:"1" desc:"floor, at least 1"`
}

func (n nested) Validate() error {
	if n.Floor < 1 {
		return errors.Join(errors.New("FLOOR is 0, must be at least 1"))
	}
	return nil
}

var environ = []string{
	"HTTP_ADDR=127.0.0.1:0", "KAFKA_BROKERS=a:9092, b:9092", "DATABASE_URL=postgres://me:hunter2@db/x", "API_KEY=hunter3",
	"SHUTDOWN_TIMEOUT=5s", "LOG_LEVEL=debug",
}

// output is a writer that may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is one run of a service under test.
type process struct {
	stop    context.CancelFunc
	abort   chan struct{}
	code    chan int
	started chan string
	out     *output
}

func start(t *testing.T, run func(context.Context, config, *service.Runtime) error, env ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{stop: cancel, abort: make(chan struct{}), code: make(chan int, 1), started: make(chan string, 1), out: &output{}}
	go func() {
		p.code <- service.Run(ctx, "shop", service.Process{
			Environ: append(append([]string{}, environ...), env...), Stdout: p.out, Stderr: p.out, Abort: p.abort,
			OnStart: func(rt *service.Runtime) { p.started <- "http://" + rt.Addr.String() },
		}, run)
	}()
	t.Cleanup(cancel)
	return p
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func ready(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, _ := get(t, url+"/readyz")
		return status == http.StatusOK
	}, 5*time.Second, 5*time.Millisecond)
}

func TestEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	code := service.Run(t.Context(), "shop", service.Process{
		Environ: []string{
			"ATTEMPTS=many", "WAIT=5", "HTTP_ADDR=nowhere", "KAFKA_BROKERS=a:9092,b", "FLOOR=0", "LOG_LEVEL=loud", "LOG_FORMAT=xml",
			"REDIS_URL=http://me:hunter2@x", "SHUTDOWN_TIMEOUT=1ms", "PPROF_ADDR=:6060",
		},
		Stdout: io.Discard, Stderr: &out,
	}, func(context.Context, config, *service.Runtime) error { return nil })
	require.Equal(t, 2, code)
	for _, line := range []string{
		`ATTEMPTS is "many", must be a whole number: attempts, 1 to 9`,
		`WAIT is "5", must be a duration such as 500ms, 10s or 2m: how long to wait`,
		`HTTP_ADDR is "nowhere", must be host:port or :port`,
		`KAFKA_BROKERS has "b", must be host:port separated by commas`,
		`DATABASE_URL is not set, must be postgres://user:password@host/db or sqlite:path`,
		`FLOOR is 0, must be at least 1`,
		`LOG_LEVEL is "loud", must be debug, info, warn or error`,
		`LOG_FORMAT is "xml", must be json or text`,
		`REDIS_URL is "http://me:***@x", must be redis://[:password@]host:port[/db]`,
		`SHUTDOWN_TIMEOUT is 1ms, must be from 1s to 10m`,
		`PPROF_ADDR is ":6060", must be 127.0.0.1:port, [::1]:port or localhost:port`,
	} {
		require.Equal(t, 1, strings.Count(out.String(), line), "%s\nin\n%s", line, out.String())
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := service.Run(t.Context(), "shop", service.Process{Args: args, Environ: []string{"HTTP_ADDR=127.0.0.1:1"}, Stdout: &out, Stderr: &out},
			func(context.Context, config, *service.Runtime) error { return nil })
		return code, out.String()
	}
	code, out := run("--help")
	require.Equal(t, 0, code)
	require.Regexp(t, `HTTP_ADDR +:8081 `, out)
	require.Regexp(t, `KAFKA_BROKERS +\(required\) +Kafka brokers`, out)
	code, out = run("--fast")
	require.Equal(t, 2, code)
	require.Contains(t, out, `unknown argument "--fast"`)
	code, out = run("-healthcheck")
	require.Equal(t, 1, code)
	require.Contains(t, out, "health check")
}

func TestLife(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var events []string
	note := func(e string) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}
	wired, slow := make(chan struct{}), make(chan struct{})
	p := start(t, func(_ context.Context, cfg config, rt *service.Runtime) error {
		<-wired
		require.Equal(t, []string{"a:9092", "b:9092"}, cfg.Brokers)
		rt.OnStop("first", func(context.Context) error { note("close first"); return nil })
		rt.OnStop("last", func(context.Context) error { note("close last"); return nil })
		rt.Go("relay", func(ctx context.Context) error { <-ctx.Done(); note("relay"); return nil })
		rt.Consume("consumer", func(ctx context.Context) error {
			<-ctx.Done()
			close(slow) // the request at work ends while the consumer stops
			note("consumer")
			return ctx.Err()
		})
		rt.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				note("request")
				<-slow
			case "/stream":
				s, err := httpapi.NewStream(w, httpapi.StreamOptions{})
				if err == nil {
					note("stream")
					_ = s.Serve(r.Context(), nil)
				}
			}
		}))
		return nil
	})
	url := <-p.started
	status, body := get(t, url+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "starting")
	status, _ = get(t, url+"/livez")
	require.Equal(t, http.StatusOK, status)
	status, body = get(t, url+"/v1/orders")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	close(wired)
	ready(t, url)
	_, body = get(t, url+"/metrics")
	require.Contains(t, body, `service_build_info{goversion=`)

	answers := make(chan int, 2)
	for _, path := range []string{"/slow", "/stream"} {
		go func() {
			status, _ := get(t, url+path)
			answers <- status
		}()
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(events) == 2
	}, 5*time.Second, time.Millisecond)
	p.stop()
	require.Equal(t, 0, <-p.code, p.out)
	require.Equal(t, http.StatusOK, <-answers)
	require.Equal(t, http.StatusOK, <-answers)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"consumer", "relay", "close last", "close first"}, events[2:])
	require.NotContains(t, p.out.String(), "hunter")
	require.Contains(t, p.out.String(), `postgres://me:***@db/x`)
}

func TestFailureBringsTheProcessDown(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("the relay broke") },
		"panic": func(context.Context) error { panic("the relay broke") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := false
			p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
				rt.OnStop("db", func(context.Context) error { closed = true; return nil })
				rt.Go("relay", fail)
				return nil
			})
			require.Equal(t, 1, <-p.code)
			require.True(t, closed)
			require.Equal(t, 1, strings.Count(p.out.String(), `"level":"ERROR"`), p.out)
			require.Contains(t, p.out.String(), "the relay broke")
		})
	}
	t.Run("wiring", func(t *testing.T) {
		t.Parallel()
		p := start(t, func(context.Context, config, *service.Runtime) error { return errors.New("no table") })
		require.Equal(t, 1, <-p.code)
		require.Contains(t, p.out.String(), "start: no table")
	})
	t.Run("closer", func(t *testing.T) {
		t.Parallel()
		p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
			rt.OnStop("db", func(context.Context) error { return errors.New("will not close") })
			return nil
		})
		p.stop()
		require.Equal(t, 1, <-p.code)
		require.Contains(t, p.out.String(), "close: db: will not close")
	})
	t.Run("during the stop", func(t *testing.T) {
		t.Parallel()
		p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
			rt.Consume("consumer", func(ctx context.Context) error { <-ctx.Done(); return errors.New("half done") })
			return nil
		})
		ready(t, <-p.started)
		p.stop()
		require.Equal(t, 1, <-p.code)
		require.Contains(t, p.out.String(), "consumers: consumer: half done")
	})
}

func TestDeadlineNamesWhatHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	closed := make(chan struct{})
	p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
		rt.OnStop("db", func(context.Context) error { close(closed); return nil })
		rt.Consume("stuck consumer", func(context.Context) error { <-release; return nil })
		return nil
	}, "SHUTDOWN_TIMEOUT=1s")
	ready(t, <-p.started)
	p.stop()
	require.Equal(t, 1, <-p.code)
	require.Contains(t, p.out.String(), "still running at the deadline: [stuck consumer]")
	<-closed // what hangs does not keep the database open
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
		rt.Consume("stuck", func(context.Context) error { <-release; return nil })
		return nil
	}, "SHUTDOWN_TIMEOUT=10m")
	ready(t, <-p.started)
	p.stop()
	close(p.abort)
	select {
	case code := <-p.code:
		require.Equal(t, 1, code)
	case <-time.After(5 * time.Second):
		require.Fail(t, "the process did not end")
	}
	require.Contains(t, p.out.String(), "ended at once")
}

func TestReadinessSaysWhatFailed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls, broken := 0, true
	hang := make(chan struct{})
	p := start(t, func(_ context.Context, _ config, rt *service.Runtime) error {
		rt.Check("good", func(context.Context) error { return nil })
		rt.Check("database", func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			if broken {
				return errors.New("connect postgres://me:hunter2@db/x: refused")
			}
			return nil
		})
		rt.Check("hanging", func(context.Context) error { <-hang; return nil })
		return nil
	})
	url := <-p.started
	var got struct {
		Ready  bool
		Checks map[string]struct {
			OK    bool
			Error string
		}
	}
	require.Eventually(t, func() bool {
		status, body := get(t, url+"/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		return len(got.Checks) == 3
	}, 10*time.Second, 5*time.Millisecond)
	require.True(t, got.Checks["good"].OK)
	require.Equal(t, "connect postgres://me:***@db/x: refused", got.Checks["database"].Error)
	require.Contains(t, got.Checks["hanging"].Error, "no answer within 2s")
	mu.Lock()
	broken, calls = false, 0
	mu.Unlock()
	close(hang)
	ready(t, url)

	var wg sync.WaitGroup
	mu.Lock()
	calls = 0
	mu.Unlock()
	for range 20 {
		wg.Go(func() { get(t, url+"/readyz") })
	}
	wg.Wait()
	mu.Lock()
	require.LessOrEqual(t, calls, 3, "twenty probes must not be twenty checks")
	mu.Unlock()
	p.stop()
	require.Equal(t, 0, <-p.code)
}

func TestAwait(t *testing.T) {
	t.Parallel()
	tries := 0
	p := start(t, func(ctx context.Context, _ config, rt *service.Runtime) error {
		err := rt.Await(ctx, "database", func(context.Context) error {
			if tries++; tries < 3 {
				return fault.Unavailablef("refused")
			}
			return nil
		})
		require.NoError(t, err)
		return rt.Await(ctx, "schema", func(context.Context) error { return errors.New("bad migration") })
	})
	require.Equal(t, 1, <-p.code)
	require.Equal(t, 3, tries)
	require.Contains(t, p.out.String(), "start: bad migration")
	t.Run("is ended by the stop", func(t *testing.T) {
		t.Parallel()
		p := start(t, func(ctx context.Context, _ config, rt *service.Runtime) error {
			return rt.Await(ctx, "database", func(context.Context) error { return fault.Unavailablef("refused") })
		})
		url := <-p.started
		require.Eventually(t, func() bool {
			_, body := get(t, url+"/readyz")
			return strings.Contains(body, `"database":{"ok":false,"error":"refused"}`)
		}, 5*time.Second, 5*time.Millisecond)
		p.stop()
		require.Equal(t, 0, <-p.code, p.out)
	})
}
