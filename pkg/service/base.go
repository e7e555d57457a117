package service

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/observe"
)

// Base is the configuration that every service has. A service embeds it.
type Base struct {
	HTTPAddr        string         `env:"HTTP_ADDR" envDefault:":8080" desc:"address of the API, /livez, /readyz and /metrics; port 0 takes a free one"`
	Brokers         []string       `env:"KAFKA_BROKERS,required" desc:"Kafka brokers, host:port separated by commas"`
	RedisURL        string         `env:"REDIS_URL" desc:"redis://[:password@]host:port[/db]"`
	DatabaseURL     string         `env:"DATABASE_URL,required" desc:"postgres://user:password@host/db or sqlite:path"`
	LogLevel        slog.Level     `env:"LOG_LEVEL" envDefault:"info" desc:"debug, info, warn or error"`
	LogFormat       observe.Format `env:"LOG_FORMAT" envDefault:"json" desc:"json or text"`
	OTLPEndpoint    string         `env:"OTEL_EXPORTER_OTLP_ENDPOINT" desc:"base URL of an OTLP/HTTP collector; empty exports no spans"`
	PprofAddr       string         `env:"PPROF_ADDR" desc:"127.0.0.1:port to serve Go's profiles at (/debug/pprof/), for this machine alone; empty serves none"`
	DrainDelay      time.Duration  `env:"DRAIN_DELAY" envDefault:"0s" desc:"how long to be unready before taking nothing new, 0s to 1m"`
	ShutdownTimeout time.Duration  `env:"SHUTDOWN_TIMEOUT" envDefault:"25s" desc:"how long a graceful stop may take in all, 1s to 10m"`
}

// Configured is a service's configuration: a struct that embeds Base.
type Configured interface{ base() Base }

func (b Base) base() Base { return b }

// Validate names every setting that is out of its range.
func (b Base) Validate() []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !hostPort(b.HTTPAddr, 0) {
		wrong("HTTP_ADDR is %q, must be host:port or :port", b.HTTPAddr)
	}
	for _, broker := range b.Brokers {
		if host, _, _ := net.SplitHostPort(broker); host == "" || !hostPort(broker, 1) {
			wrong("KAFKA_BROKERS has %q, must be host:port separated by commas", broker)
		}
	}
	if !urlOf(b.DatabaseURL, "postgres", "postgresql") && !(strings.HasPrefix(b.DatabaseURL, "sqlite:") && len(b.DatabaseURL) > len("sqlite:")) {
		wrong("DATABASE_URL is %q, must be postgres://user:password@host/db or sqlite:path", shown(b.DatabaseURL))
	}
	if b.RedisURL != "" && !urlOf(b.RedisURL, "redis", "rediss") {
		wrong("REDIS_URL is %q, must be redis://[:password@]host:port[/db]", shown(b.RedisURL))
	}
	if b.OTLPEndpoint != "" && !urlOf(b.OTLPEndpoint, "http", "https") {
		wrong("OTEL_EXPORTER_OTLP_ENDPOINT is %q, must be http://host:port or https://host:port", shown(b.OTLPEndpoint))
	}
	if b.PprofAddr != "" && !loopback(b.PprofAddr) {
		wrong("PPROF_ADDR is %q, must be 127.0.0.1:port, [::1]:port or localhost:port", b.PprofAddr)
	}
	if b.DrainDelay < 0 || b.DrainDelay > time.Minute {
		wrong("DRAIN_DELAY is %s, must be from 0s to 1m", b.DrainDelay)
	}
	if b.ShutdownTimeout < time.Second || b.ShutdownTimeout > 10*time.Minute {
		wrong("SHUTDOWN_TIMEOUT is %s, must be from 1s to 10m", b.ShutdownTimeout)
	}
	if b.DrainDelay >= b.ShutdownTimeout {
		wrong("DRAIN_DELAY is %s, must be less than SHUTDOWN_TIMEOUT (%s)", b.DrainDelay, b.ShutdownTimeout)
	}
	return errs
}

func hostPort(addr string, minPort int) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= minPort && n <= 65535
}

func urlOf(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme)
}

// shown is a wrong address as a message may show it. What cannot be parsed cannot be masked with certainty.
func shown(text string) string {
	if strings.Contains(text, "@") {
		if _, err := url.Parse(text); err != nil {
			return observe.Masked
		}
	}
	return observe.Mask(text)
}
