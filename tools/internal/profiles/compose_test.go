//go:build native

package profiles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

const (
	root     = "../../.."
	patience = 5 * time.Minute
	often    = 100 * time.Millisecond
)

// composed is a service of docker-compose.yml, as far as it matters here.
type composed struct {
	Command     []string
	Environment map[string]string
}

func compose(t *testing.T) map[string]composed {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	var file struct{ Services map[string]composed }
	require.NoError(t, yaml.Unmarshal(text, &file))
	return file.Services
}

// port is a free one.
func port(t *testing.T) string {
	t.Helper()
	ports, err := loopback.Ports(1)
	require.NoError(t, err)
	return loopback.Address(ports[0])
}

// program finds one of the names that a program has on different systems.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.Failf(t, "a program is missing", "none of %v is in PATH: run this with `make test-profiles-native`", names)
	return ""
}

// run starts a program that ends with the test, and shows the end of its log if the test fails.
func run(t *testing.T, name, stopState string, command ...string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), name+".log")
	ended := make(chan string, 1)
	p := process.New(process.Config{
		Name: name, Path: command[0], Args: command[1:], Env: os.Environ(), Log: log, StopState: stopState, StopTimeout: 20 * time.Second,
		Exited: func(state, _ string) { ended <- state },
	})
	_, err := p.Start()
	require.NoError(t, err)
	t.Cleanup(func() {
		select {
		case state := <-ended:
			t.Errorf("%s went down by itself: %s", name, state)
		default:
		}
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop %s: %s", name, err)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.Tail())
		}
	})
}

// get reads JSON into answer.
func get(t *testing.T, url string, answer any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", url, res.Status, body)
	}
	return json.Unmarshal(body, answer)
}

// eventually waits until done does not object any more.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	var err error
	require.Eventually(t, func() bool { err = done(); return err == nil }, patience, often, "%s: %s", what, later{&err})
}

// later is what an error says when it is printed.
type later struct{ err *error }

func (l later) String() string { return fmt.Sprint(*l.err) }
