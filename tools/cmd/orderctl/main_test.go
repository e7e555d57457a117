package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--help", 0, "Run a whole system on this machine"},
		{"up --help", 0, "--base-port=8080"},
		{"", 2, "expected one of"},
		{"nothing", 2, "unexpected argument nothing"},
		{"up --base-port=high", 2, "expected a valid 64 bit int but got \"high\""},
		{"up --base-port=70000 --bin=" + t.TempDir(), 1, "port 70000 (order) must be from 1 to 65535"},
		{"run --bin=" + t.TempDir() + " true", 1, "build them with `make build`"},
		{"run --servers-only --stack=native --native-dir=" + t.TempDir() + " true", 1, "run `make native-deps`"},
		{"run --servers-only --stack=native --brokers=2 --native-dir=" + t.TempDir() + " true", 1, "must be 1 or 3"},
		{"demo --brokers=3", 1, "--brokers is for --stack=native"},
		{"up --stack=podman", 2, `--stack must be one of "embedded","native","compose" but got "podman"`},
		{"up --stack=compose", 1, "docker compose up --build --wait"},
		{"run --servers-only --stack=compose true", 1, "--stack=compose is for 'demo' and 'run' of all services"},
		{"down --dir=" + t.TempDir(), 0, "Nothing is running in "},
		{"reset --dir=" + t.TempDir(), 0, "Removed "},
		{"kafka topic", 1, `"topic" is none of Kafka's tools here, must be one of broker-api-versions, configs, `},
		{"kafka topics --native-dir=" + t.TempDir(), 1, "run `make native-deps`"},
		{"lag --brokers=127.0.0.1:1 --wait=1ms", 1, "reach Kafka at [127.0.0.1:1] within 1ms"},
		{"lag --brokers=nowhere", 1, `broker "nowhere" must be host:port`},
		{"lag --brokers=127.0.0.1:1 --old=0s", 1, "--old must be a positive duration"},
		{"lag --help", 0, "Where a group"},
		{"bench --in-flight=5000", 1, "--in-flight is 5000, must be from 1 to 4096"},
		{"bench --rate=-1", 1, "--rate is -1, must be more than 0 and at most 20000"},
		{"bench --rate=NaN", 1, "--rate is NaN, must be more than 0 and at most 20000"},
		{"bench --in-flight=0 --rate=0", 1, "--in-flight, --saga-alone, --accept and --rate are 0 loads, must be from 1 to 16"},
		{"bench --saga-alone=5000", 1, "--saga-alone is 5000, must be from 1 to 4096"},
		{"bench --saga-alone=8 --warmup=1m --duration=61s", 1, "--warmup and --duration are 2m1s together, must be at most 2m0s with --saga-alone"},
		{"bench --accept=5000", 1, "--accept is 5000, must be from 1 to 4096"},
		{"bench --rivals=nobody", 1, `--rivals has "nobody", must be all, or some of orchestrator, subscriber, forwarder`},
		{"bench --stack=embedded --rivals=all", 1, "--rivals needs real servers: --stack=native"},
		{"bench --duration=1h", 1, "--duration is 1h0m0s, must be from 1s to 10m0s"},
		{"bench --warmup=-1s", 1, "--warmup is -1s, must be from 0s to 10m0s"},
		{"bench --bin=" + t.TempDir(), 1, "build them with `make build`"},
		{"bench --brokers=3", 1, "--brokers is for --stack=native"},
		{"topics plan --brokers=nowhere", 1, `broker "nowhere" must be host:port`},
		{"topics plan --brokers=127.0.0.1:1 --env=test", 2, `--env must be one of "development","production" but got "test"`},
		{"topics apply --brokers=127.0.0.1:1 --hold=0s", 1, "--hold is 0s and --timeout 10m0s, both must be more than 0s"},
		{"topics apply --brokers=127.0.0.1:1 --wait=1ms", 1, "reach Kafka at [127.0.0.1:1] within 1ms"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			require.Equal(t, c.code, run(strings.Fields(c.args), console{out: &out, err: &out}), out.String())
			require.Contains(t, out.String(), c.says)
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	env, err := settings([]string{"LOG_LEVEL=debug", "payment:PAYMENT_PROVIDER_TIMEOUT=1s", "WEBHOOK_URL=http://a:1/b=c"})
	require.NoError(t, err)
	require.Equal(t, map[string][]string{
		"":        {"LOG_LEVEL=debug", "WEBHOOK_URL=http://a:1/b=c"},
		"payment": {"PAYMENT_PROVIDER_TIMEOUT=1s"},
	}, env)
	_, err = settings([]string{"LOG_LEVEL"})
	require.ErrorContains(t, err, "must be NAME=value or service:NAME=value")
	_, err = settings([]string{"orders:A=b"})
	require.ErrorContains(t, err, "must be one of order, inventory")
}
