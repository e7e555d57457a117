package stack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/stack"
)

// The test binary is also the services of its stacks, and a program with a stack that is killed; MODE says which.
func TestMain(m *testing.M) {
	switch mode := os.Getenv("MODE"); mode {
	case "":
		// sarama measures; its library has one goroutine for good.
		goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
	case "supervisor":
		supervise()
	default:
		os.Exit(serve(mode))
	}
}

func serve(mode string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if mode == "fails" {
		fmt.Println("cannot do that")
		return 3
	}
	server := &http.Server{Addr: os.Getenv("HTTP_ADDR"), ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case mode == "unready":
			http.Error(w, "broker: away", http.StatusServiceUnavailable)
		case r.URL.Path == "/crash":
			fmt.Println("crashing")
			os.Exit(7)
		case r.URL.Path == "/env":
			_, _ = fmt.Fprint(w, strings.Join(os.Environ(), "\n"))
		}
	})}
	go func() { _ = server.ListenAndServe() }()
	<-ctx.Done()
	if mode == "deaf" {
		select {}
	}
	_ = server.Close()
	fmt.Println("stopped gracefully")
	return 0
}

func supervise() {
	s, err := stack.Start(context.Background(), options(os.Getenv("BIN"), os.Getenv("DIR"), "serves"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.URL("alpha"))
	select {}
}

func options(bin, dir, mode string) stack.Options {
	return stack.Options{
		Bin: bin, Dir: dir, Services: []string{"alpha", "beta"}, Env: map[string][]string{"": {"MODE=serves"}, "beta": {"MODE=" + mode, "OWN=1"}},
		ReadyTimeout: 20 * time.Second, StopTimeout: 5 * time.Second,
	}
}

// binaries is a folder in which this program stands under the services' names.
func binaries(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"alpha", "beta"} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	return dir
}

func start(t *testing.T, mode string) *stack.Stack {
	t.Helper()
	s, err := stack.Start(t.Context(), options(binaries(t), t.TempDir(), mode))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func get(t *testing.T, url string) (string, error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	return string(body), errors.Join(err, res.Body.Close())
}

func TestServicesFindTheStackAndStopGracefully(t *testing.T) {
	t.Parallel()
	s := start(t, "serves")
	env, err := get(t, s.URL("beta")+"/env")
	require.NoError(t, err)
	require.Contains(t, env, "KAFKA_BROKERS="+s.Brokers()[0])
	require.Contains(t, env, "REDIS_URL="+s.RedisURL())
	require.Contains(t, env, "beta.db")
	require.Contains(t, env, "OWN=1")
	require.Contains(t, s.Env(), "ALPHA_URL="+s.URL("alpha"))

	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "again")
	log, err := os.ReadFile(s.LogPath("beta"))
	require.NoError(t, err)
	require.Contains(t, string(log), "stopped gracefully")
	_, err = get(t, s.URL("alpha"))
	require.Error(t, err)
	require.Error(t, s.Restart(t.Context(), "alpha"), "after Stop nothing starts")
}

func TestKilledServiceComesBackOnItsPort(t *testing.T) {
	t.Parallel()
	s := start(t, "serves")
	url := s.URL("beta")
	before := s.PIDs()
	require.Len(t, before, 2, "the embedded servers are in this process")
	require.NoError(t, s.Kill("beta"))
	require.Equal(t, map[string]int{"alpha": before["alpha"]}, s.PIDs())
	_, err := get(t, url)
	require.Error(t, err)
	_, err = get(t, s.URL("alpha"))
	require.NoError(t, err, "the other service goes on")
	require.NoError(t, s.Kill("beta"), "down stays down")
	require.NoError(t, s.Restart(t.Context(), "beta"))
	require.Equal(t, url, s.URL("beta"))
	require.NoError(t, syscall.Kill(s.PIDs()["beta"], 0), "a process that is there")
	_, err = get(t, url)
	require.NoError(t, err)
	require.Empty(t, s.Exits(), "an end that was asked for is no news")
	require.ErrorContains(t, s.Kill("gamma"), `no service or server "gamma", must be one of alpha, beta`)
}

func TestEndThatNobodyAskedForIsReported(t *testing.T) {
	t.Parallel()
	s := start(t, "serves")
	_, err := get(t, s.URL("alpha")+"/crash")
	require.Error(t, err)
	select {
	case exit := <-s.Exits():
		require.Equal(t, "alpha", exit.Name)
		require.Equal(t, "exit status 7", exit.State)
		require.Contains(t, exit.Log, "crashing")
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no report")
	}
	require.NoError(t, s.Stop(t.Context()))
}

func TestServiceThatDoesNotStopIsKilledAndNamed(t *testing.T) {
	t.Parallel()
	o := options(binaries(t), t.TempDir(), "deaf")
	o.StopTimeout = 200 * time.Millisecond
	s, err := stack.Start(t.Context(), o)
	require.NoError(t, err)
	require.ErrorContains(t, s.Stop(t.Context()), "beta did not stop within 200ms and was killed")
	_, err = get(t, s.URL("beta"))
	require.Error(t, err)
}

func TestFailedStartShowsWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	o := options(binaries(t), t.TempDir(), "fails")
	_, err := stack.Start(t.Context(), o)
	require.ErrorContains(t, err, "beta ended before it was ready (exit status 3); its log ends:\n    cannot do that")

	o.Env["beta"], o.ReadyTimeout = []string{"MODE=unready"}, time.Second
	_, err = stack.Start(t.Context(), o)
	require.ErrorContains(t, err, "beta is not ready")
	require.ErrorContains(t, err, "broker: away")

	o.Bin = t.TempDir()
	_, err = stack.Start(t.Context(), o)
	require.ErrorContains(t, err, "no binaries of alpha, beta in "+o.Bin)
}

func TestTakenPortsAreNamedTogether(t *testing.T) {
	t.Parallel()
	kafka, redis := listen(t), listen(t)
	o := options(binaries(t), t.TempDir(), "serves")
	o.KafkaPort, o.RedisPort = kafka, redis
	_, err := stack.Start(t.Context(), o)
	var taken *loopback.PortTaken
	require.ErrorAs(t, err, &taken)
	require.ErrorContains(t, err, fmt.Sprintf("port %d (kafka) is taken", kafka))
	require.ErrorContains(t, err, fmt.Sprintf("port %d (redis) is taken", redis))
	o = options(o.Bin, o.Dir, "serves")
	o.BasePort = listen(t)
	_, err = stack.Start(t.Context(), o)
	require.ErrorContains(t, err, fmt.Sprintf("port %d (alpha) is taken", o.BasePort))
}

func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestNothingIsLeftWhenTheSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "MODE=supervisor", "BIN="+binaries(t), "DIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make([]byte, 100)
	n, err := out.Read(said)
	require.NoError(t, err)
	url := strings.TrimSpace(string(said[:n]))
	_, err = get(t, url)
	require.NoError(t, err, url)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool {
		_, err := get(t, url)
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)
}

func TestFolderHasOneStackWhichAnotherProcessCanStop(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	found, err := stack.StopOther(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, found, "there is none yet")

	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "MODE=supervisor", "BIN="+binaries(t), "DIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make([]byte, 100)
	n, err := out.Read(said)
	require.NoError(t, err)

	_, err = stack.Start(t.Context(), options(binaries(t), dir, "serves"))
	require.ErrorIs(t, err, stack.ErrRunning)
	require.ErrorIs(t, stack.Remove(dir), stack.ErrRunning)
	_, err = get(t, strings.TrimSpace(string(said[:n])))
	require.NoError(t, err, "it was left alone")

	found, err = stack.StopOther(t.Context(), dir)
	require.NoError(t, err)
	require.True(t, found)
	_ = cmd.Wait()
	found, err = stack.StopOther(t.Context(), dir)
	require.NoError(t, err)
	require.False(t, found)
	require.NoError(t, stack.Remove(dir))
	require.NoDirExists(t, dir)
}
