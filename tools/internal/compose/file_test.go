package compose_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const root = "../../.."

// file is docker-compose.yml, as far as something could be wrong with it.
type file struct {
	Services map[string]struct {
		Image, Restart string
		Profiles       []string
		MemLimit       string `yaml:"mem_limit"`
		CPUs           string
		Ports, Volumes []string
		DependsOn      map[string]struct{ Condition string } `yaml:"depends_on"`
		Healthcheck    struct {
			Test    []string
			Disable bool
		}
	}
	Volumes map[string]any
}

// profiles are all combinations.
func profiles(all []string) (sets [][]string) {
	for bits := range 1 << len(all) {
		var set []string
		for i, name := range all {
			if bits&(1<<i) != 0 {
				set = append(set, name)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// TestFile looks through what is started with each combination of profiles, and has Compose do the same where it is there.
func TestFile(t *testing.T) {
	t.Parallel()
	f := read(t)
	for _, set := range profiles([]string{"cdc", "obs", "ui"}) {
		t.Run(fmt.Sprintf("%v", set), func(t *testing.T) {
			t.Parallel()
			require.Empty(t, f.mistakes(set))
			config(t, set)
		})
	}
}

// What is wrong is seen.
func TestMistakes(t *testing.T) {
	t.Parallel()
	f := read(t)
	f.Services["redis"] = f.Services["alertmanager"]
	delete(f.Volumes, "kafka")
	require.Equal(t, []string{
		"analytics: it waits for redis, which is not started", "inventory: it waits for redis, which is not started",
		"kafka: there is no volume kafka", "notification: it waits for redis, which is not started",
		"order: it waits for redis, which is not started", "payment: it waits for redis, which is not started",
		"shipping: it waits for redis, which is not started",
	}, f.mistakes(nil))
	require.Contains(t, f.mistakes([]string{"obs"}), "redis: the port 9093 is alertmanager's")
}

func read(t *testing.T) (f file) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &f))
	return f
}

// config has Compose read the file.
func config(t *testing.T, profiles []string) {
	t.Helper()
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() != nil {
		t.Log("there is no docker compose here to read it too")
		return
	}
	args := []string{"compose", "--file", filepath.Join(root, "docker-compose.yml")}
	for _, p := range profiles {
		args = append(args, "--profile", p)
	}
	out, err := exec.CommandContext(t.Context(), "docker", append(args, "config", "--quiet")...).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out), "Compose warns of nothing")
}

var (
	pinned = regexp.MustCompile(`^\$\{[A-Z]+_IMAGE:-[a-z./0-9]+/?[a-z]+:v?\d[\w.]*\}$|^orderflow/[a-z]+:\$\{TAG:-dev\}$`)
	local  = regexp.MustCompile(`^127\.0\.0\.1:\d+:\d+$`)
)

// mistakes are what is wrong with the services of these profiles.
func (f file) mistakes(profiles []string) (wrong []string) {
	started := func(name string) bool {
		of, there := f.Services[name]
		return there && (len(of.Profiles) == 0 || slices.ContainsFunc(of.Profiles, func(p string) bool { return slices.Contains(profiles, p) }))
	}
	taken := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		if !started(name) {
			continue
		}
		s := f.Services[name]
		must := func(holds bool, format string, args ...any) {
			if !holds {
				wrong = append(wrong, name+": "+fmt.Sprintf(format, args...))
			}
		}
		must(pinned.MatchString(s.Image), "the image %s has no version, or cannot be replaced", s.Image)
		must(s.MemLimit != "" && s.CPUs != "", "memory and CPUs have no limit")
		must(s.Restart != "", "it has no restart policy")
		for _, port := range s.Ports {
			must(local.MatchString(port), "the port %s is not on 127.0.0.1", port)
			outside := strings.Split(port, ":")[min(1, strings.Count(port, ":"))]
			must(taken[outside] == "", "the port %s is %s's", outside, taken[outside])
			taken[outside] = name
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			_, declared := f.Volumes[from]
			if path, bind := strings.CutPrefix(from, "./"); bind {
				_, err := os.Stat(filepath.Join(root, path))
				declared = err == nil
				must(strings.HasSuffix(volume, ":ro"), "%s can be written to", from)
			}
			must(declared, "there is no volume %s", from)
		}
		for on, want := range s.DependsOn {
			must(started(on), "it waits for %s, which is not started", on)
			checked := len(f.Services[on].Healthcheck.Test) > 0 && !f.Services[on].Healthcheck.Disable
			must(want.Condition == "service_completed_successfully" || want.Condition == "service_healthy" && checked,
				"it waits until %s is %s, which nobody checks", on, want.Condition)
		}
		must(len(s.Healthcheck.Test) > 0 || s.Healthcheck.Disable || s.Restart != "unless-stopped", "nobody checks whether it is well")
	}
	return wrong
}
