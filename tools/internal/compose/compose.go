// Package compose runs a whole Orderflow in containers: the repository's docker-compose.yml as it stands, as a project of
// its own that leaves nothing behind. Docker with Compose is all that it needs.
//
//	s, err := compose.Start(ctx, compose.Options{File: "docker-compose.yml", Project: "orderflow-demo", Dir: dir})
//	…
//	err = s.Kill("payment")          // as a machine that loses power
//	err = s.Restart(ctx, "payment")  // back on the same port with the same database
//	err = s.Stop(ctx)
//
// It promises that Start returns only when every service is ready, and that containers and volumes are gone after Stop.
// Ports are those of the file, so two such systems, or one and `docker compose up`, do not run side by side.
package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

const (
	// readyTimeout is how long the services may take when their containers are up.
	readyTimeout = time.Minute
	// stopSeconds is how long containers have for a graceful stop.
	stopSeconds = "30"
)

// The ports inside of the containers that are looked up outside; Kafka's is its listener for this machine.
const (
	servicePort = "8080"
	kafkaPort   = "19092"
	redisPort   = "6379"
)

// Options is a system as it should be.
type Options struct {
	// File is the docker-compose.yml.
	File string
	// Project keeps its containers and volumes apart from those of other projects.
	Project string
	// Dir gets the containers' log and the settings; it must be there.
	Dir string
	// Env are settings of a service ("NAME=value") by its name, those under "" are every service's.
	Env map[string][]string
	// Progress hears what Docker says.
	Progress io.Writer
}

// Stack is a running system. Its methods may be called from several goroutines.
type Stack struct {
	opts  Options
	files []string
	urls  map[string]string
	kafka string
	redis string
	exits chan stack.Exit
}

// Start builds the images, starts everything and returns when every service is ready. On an error nothing is left.
func Start(ctx context.Context, opts Options) (_ *Stack, err error) {
	s := &Stack{opts: opts, urls: map[string]string{}, exits: make(chan stack.Exit, len(client.Services()))}
	override := filepath.Join(opts.Dir, "settings.json")
	if err := writeSettings(override, opts.Env); err != nil {
		return nil, err
	}
	s.files = []string{opts.File, override}
	if _, err := s.compose(ctx, "version"); err != nil {
		return nil, fmt.Errorf("the compose stack needs Docker with Compose: %w", err)
	}
	// What a crash left would be gone on with.
	if err := s.down(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := s.compose(ctx, "build"); err != nil {
		return nil, err
	}
	if _, err := s.compose(ctx, append([]string{"up", "--detach", "--wait", "--no-build"}, client.Services()...)...); err != nil {
		return nil, err
	}
	if s.kafka, err = s.port(ctx, "kafka", kafkaPort); err != nil {
		return nil, err
	}
	if s.redis, err = s.port(ctx, "redis", redisPort); err != nil {
		return nil, err
	}
	for _, name := range client.Services() {
		address, err := s.port(ctx, name, servicePort)
		if err != nil {
			return nil, err
		}
		s.urls[name] = "http://" + address
	}
	for _, name := range client.Services() {
		if err := s.ready(ctx, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// writeSettings writes a file that Compose lays over the other: more environment for some services.
func writeSettings(path string, env map[string][]string) error {
	services := map[string]any{}
	for _, name := range client.Services() {
		if more := slices.Concat(env[""], env[name]); len(more) > 0 {
			services[name] = map[string]any{"environment": more}
		}
	}
	text, err := json.MarshalIndent(map[string]any{"services": services}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// compose runs docker compose and returns what it printed; what it says besides goes to Progress, and into the error.
func (s *Stack) compose(ctx context.Context, args ...string) (string, error) {
	all := []string{"compose", "--project-name", s.opts.Project, "--project-directory", filepath.Dir(s.opts.File), "--progress", "plain"}
	for _, file := range s.files {
		all = append(all, "--file", file)
	}
	cmd := exec.CommandContext(ctx, "docker", append(all, args...)...)
	// It takes its containers down with it when it is asked to end; to kill it would leave them.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&said, s.opts.Progress)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker compose %s: %w\n%s", args[0], err, tail(said.String()))
	}
	return out.String(), nil
}

// tail is the end of what a program said, indented.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-20):], "\n    ")
}

// port is where a container's port is on this machine, host:port.
func (s *Stack) port(ctx context.Context, service, port string) (string, error) {
	out, err := s.compose(ctx, "port", service, port)
	return strings.TrimSpace(out), err
}

// ready waits until a service says that it is.
func (s *Stack) ready(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := client.Eventually(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.urls[name]+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s %s", res.Status, bytes.TrimSpace(body))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", name, err)
	}
	return nil
}

// Kill ends a container with SIGKILL; it stays down.
func (s *Stack) Kill(name string) error {
	_, err := s.compose(context.Background(), "kill", name)
	return err
}

// Restart starts a container, after stopping it if it is up, and returns when it is healthy, and ready if it is a service.
func (s *Stack) Restart(ctx context.Context, name string) error {
	if _, err := s.compose(ctx, "stop", "--timeout", stopSeconds, name); err != nil {
		return err
	}
	if _, err := s.compose(ctx, "up", "--detach", "--wait", "--no-deps", "--no-build", name); err != nil {
		return err
	}
	if _, service := s.urls[name]; service {
		return s.ready(ctx, name)
	}
	return nil
}

// Exits reports services that went down without being told to, when the system has been stopped: until then Docker
// starts them again.
func (s *Stack) Exits() <-chan stack.Exit { return s.exits }

// URL is a service's base URL.
func (s *Stack) URL(name string) string { return s.urls[name] }

// Brokers are Kafka's addresses.
func (s *Stack) Brokers() []string { return []string{s.kafka} }

// RedisURL is Redis's address.
func (s *Stack) RedisURL() string { return "redis://" + s.redis + "/0" }

// Servers are the names that Kill and Restart take besides services.
func (s *Stack) Servers() []string { return []string{"kafka", "postgres", "redis"} }

// Env are the variables, "NAME=value", by which programs find the system.
func (s *Stack) Env() []string {
	env := []string{"KAFKA_BROKERS=" + s.kafka, "REDIS_URL=" + s.RedisURL()}
	for _, name := range client.Services() {
		env = append(env, client.Variable(name)+"="+s.urls[name])
	}
	return env
}

// Stop stops everything, writes the containers' log to compose.log in Options.Dir, and removes containers and volumes. A
// container that Docker had to start again is an error.
func (s *Stack) Stop(ctx context.Context) error {
	restarted := s.restarted(ctx)
	_, err := s.compose(ctx, "stop", "--timeout", stopSeconds)
	log, logErr := s.compose(ctx, "logs", "--no-color", "--timestamps")
	if logErr == nil {
		logErr = os.WriteFile(filepath.Join(s.opts.Dir, "compose.log"), []byte(log), 0o600)
	}
	return errors.Join(restarted, err, logErr, s.down(ctx))
}

// restarted names the containers that ended by themselves.
func (s *Stack) restarted(ctx context.Context) error {
	ids, err := s.compose(ctx, "ps", "--quiet")
	if err != nil || strings.TrimSpace(ids) == "" {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker", append([]string{"inspect", "--format", "{{.RestartCount}} {{.Name}}"}, strings.Fields(ids)...)...)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("docker inspect: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(out)) {
		if count, name, _ := strings.Cut(strings.TrimSpace(line), " "); count != "0" {
			errs = append(errs, fmt.Errorf("%s went down, and Docker started it again %s times", strings.TrimPrefix(name, "/"), count))
		}
	}
	return errors.Join(errs...)
}

func (s *Stack) down(ctx context.Context) error {
	_, err := s.compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", stopSeconds)
	return err
}
