package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/caarlos0/env/v11"
	"go.opentelemetry.io/otel"

	"github.com/orderflow/orderflow/pkg/observe"
)

// Exit codes.
const (
	exitClean   = 0
	exitFailure = 1
	exitUsage   = 2
)

// Process is what a process has from outside. Tests make their own, so that Run needs no real arguments, environment
// or signals.
type Process struct {
	// Args are the arguments without the program's name.
	Args []string
	// Environ has the form of os.Environ.
	Environ        []string
	Stdout, Stderr io.Writer
	// Abort ends a stop that is under way at once: the second signal. Nil never does.
	Abort <-chan struct{}
	// OnStart, if set, is called with the runtime before run is; it is where a test learns the address.
	OnStart func(*Runtime)
}

// Main is a service's main: it reads the configuration, calls run to wire the service, serves until SIGTERM or SIGINT,
// stops in order and exits. It also sets what libraries force to be global: OpenTelemetry's provider and propagator,
// and sarama's logger.
func Main[C Configured](name string, run func(ctx context.Context, cfg C, rt *Runtime) error) {
	ctx, cancel := context.WithCancel(context.Background())
	abort := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		cancel()
		<-signals
		close(abort)
		// Whoever ignores even that does not keep the process.
		<-time.After(time.Second)
		os.Exit(exitFailure)
	}()
	collectGarbage()
	code := Run(ctx, name, Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Abort: abort, OnStart: setGlobals,
	}, run)
	cancel()
	os.Exit(code)
}

func setGlobals(rt *Runtime) {
	slog.SetDefault(rt.Logger) // for whoever logs without having been given a logger
	otel.SetTracerProvider(rt.Tracer)
	otel.SetTextMapPropagator(observe.Propagator())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		rt.Logger.Warn("tracing", "error", err)
	}))
	sarama.Logger = observe.NewPrintLogger(rt.Logger, "sarama")
}

// Run is Main without a process around it: it returns the exit code. The end of ctx is the signal to stop.
func Run[C Configured](ctx context.Context, name string, p Process, run func(ctx context.Context, cfg C, rt *Runtime) error) int {
	var cfg C
	environ := env.ToMap(p.Environ)
	vars, mistakes := load(&cfg, environ)
	switch code, done := arguments(ctx, name, p, vars); {
	case done:
		return code
	case len(mistakes) > 0:
		_, _ = fmt.Fprintf(p.Stderr, "%s: mistakes in the configuration: %d\n", name, len(mistakes))
		for _, mistake := range mistakes {
			_, _ = fmt.Fprintf(p.Stderr, "  %s\n", mistake)
		}
		return exitUsage
	}
	base := cfg.base()
	logger := observe.NewLogger(p.Stderr, base.LogLevel, base.LogFormat, name)
	attrs := make([]any, 0, len(vars))
	for _, v := range vars {
		attrs = append(attrs, slog.String(v.name, v.print()))
	}
	logger.InfoContext(ctx, "starting", "version", Version(), slog.Group("config", attrs...))
	started := time.Now()
	if err := serve(ctx, name, base, logger, p, func(ctx context.Context, rt *Runtime) error { return run(ctx, cfg, rt) }); err != nil {
		logger.ErrorContext(ctx, "stopped", "error", err, "after", time.Since(started))
		return exitFailure
	}
	logger.InfoContext(ctx, "stopped", "after", time.Since(started))
	return exitClean
}

// arguments deals with what is not an ordinary start.
func arguments(ctx context.Context, name string, p Process, vars []variable) (code int, done bool) {
	if len(p.Args) == 0 {
		return 0, false
	}
	switch p.Args[0] {
	case "--help", "-help", "-h":
		usage(p.Stdout, name, vars)
		return exitClean, true
	case "-healthcheck", "--healthcheck", "-healthcheck=ready", "--healthcheck=ready":
		addr := ""
		for _, v := range vars {
			if v.name == "HTTP_ADDR" {
				addr = v.value.String()
			}
		}
		path := "/livez"
		if strings.HasSuffix(p.Args[0], "=ready") {
			path = "/readyz"
		}
		if err := healthcheck(ctx, addr, path); err != nil {
			_, _ = fmt.Fprintf(p.Stderr, "%s: %v\n", name, err)
			return exitFailure, true
		}
		return exitClean, true
	default:
		_, _ = fmt.Fprintf(p.Stderr, "%s: unknown argument %q; --help, -healthcheck and -healthcheck=ready are known, the rest is in the environment\n", name, p.Args[0])
		return exitUsage, true
	}
}

// healthcheck asks a process on this machine whether it lives, or is ready.
func healthcheck(ctx context.Context, addr, path string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	// A transport of its own: no proxy from the environment stands between a process and itself.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: %s answers %s", path, res.Status)
	}
	return nil
}

// version is set by the build of an image: -ldflags "-X …/pkg/service.version=1.4.0".
var version string

// Version is the build's version: what it was given, or the commit, or the module's, or "devel".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}
