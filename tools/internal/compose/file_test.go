package compose_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
		Environment    map[string]string
		Build          struct {
			Context string
			Args    map[string]string
		}
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

	f = read(t)
	f.Services["order"].Environment["DATABASE_URL"] = f.Services["payment"].Environment["DATABASE_URL"]
	f.Services["postgres"].Environment["SHIPPING_DATABASE_PASSWORD"] = "other"
	require.Equal(t, []string{
		"order: DATABASE_URL must be of its own login, with ${ORDER_DATABASE_PASSWORD:-order}", "shipping: PostgreSQL has another SHIPPING_DATABASE_PASSWORD",
	}, f.mistakes(nil))

	f = read(t)
	order, topics := f.Services["order"], f.Services["topics"]
	order.Healthcheck.Test = []string{"CMD", "/app", "-healthcheck"}
	delete(order.Build.Args, "SOURCE_DATE_EPOCH")
	topics.DependsOn["payment"] = struct{ Condition string }{"service_healthy"}
	f.Services["order"] = order
	require.Equal(t, []string{
		"order: the moment of the build is in its image",
		"order: it must be healthy when it is ready, not when it lives", "payment: it waits for what waits for it", "topics: it waits for what waits for it",
	}, f.mistakes(nil))

	kafka := read(t).Services["kafka"]
	for want, env := range map[string]map[string]string{
		"kafka: a heap of 768 MiB in 1024: half of it is for what is beside the heap":          {"KAFKA_HEAP_OPTS": "-Xmx768m"},
		"kafka: KAFKA_HEAP_OPTS is \"-Xms1g\", which says no -Xmx: the image's default is all": {"KAFKA_HEAP_OPTS": "-Xms1g"},
		"kafka: the log cleaner's buffer of 128 MiB in a heap of 200":                          {"KAFKA_HEAP_OPTS": "-Xmx200m"},
		"kafka: the log cleaner's buffer of 512 MiB in a heap of 512":                          {"KAFKA_HEAP_OPTS": "-Xmx512m", "KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE": "536870912"},
	} {
		f, changed := read(t), kafka
		changed.Environment = env
		f.Services["kafka"] = changed
		require.Equal(t, []string{want}, f.mistakes(nil))
	}
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
	heap   = regexp.MustCompile(`-Xmx(\d+[mg])\b`)
)

// heaps are the variables that say how much a JVM may take where the image's own answer is more than there is.
var heaps = map[string]string{"kafka": "KAFKA_HEAP_OPTS", "debezium": "HEAP_OPTS"}

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
		must(s.Build.Context == "" || s.Build.Args["SOURCE_DATE_EPOCH"] != "", "the moment of the build is in its image")
		if variable := heaps[name]; variable != "" {
			wrong = append(wrong, memory(name, s.MemLimit, variable, s.Environment)...)
		}
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
		if url := s.Environment["DATABASE_URL"]; url != "" {
			variable := strings.ToUpper(name) + "_DATABASE_PASSWORD"
			password := "${" + variable + ":-" + name + "}"
			must(url == "postgres://"+name+":"+password+"@postgres:5432/"+name+"?sslmode=disable", "DATABASE_URL must be of its own login, with %s", password)
			must(f.Services["postgres"].Environment[variable] == password, "PostgreSQL has another %s", variable)
			must(slices.Equal(s.Healthcheck.Test, []string{"CMD", "/app", "-healthcheck=ready"}), "it must be healthy when it is ready, not when it lives")
		}
		must(!f.needs(name, name, nil), "it waits for what waits for it")
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

// needs tells whether a service waits for another, at once or by way of those that it waits for.
func (f file) needs(name, other string, seen map[string]bool) bool {
	if seen == nil {
		seen = map[string]bool{}
	}
	for on := range f.Services[name].DependsOn {
		if on == other {
			return true
		}
		if !seen[on] {
			seen[on] = true
			if f.needs(on, other, seen) {
				return true
			}
		}
	}
	return false
}

// memory tells what does not fit into a JVM's container.
func memory(name, limit, variable string, env map[string]string) []string {
	found := heap.FindStringSubmatch(env[variable])
	if found == nil {
		return []string{fmt.Sprintf("%s: %s is %q, which says no -Xmx: the image's default is all", name, variable, env[variable])}
	}
	if has, wants := mebibytes(limit), mebibytes(found[1]); 2*wants > has {
		return []string{fmt.Sprintf("%s: a heap of %d MiB in %d: half of it is for what is beside the heap", name, wants, has)}
	}
	if name != "kafka" {
		return nil
	}
	// Kafka's default, which it takes in one piece when it starts.
	buffer := 128
	if bytes, err := strconv.Atoi(env["KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE"]); err == nil {
		buffer = bytes >> 20
	}
	if has := mebibytes(found[1]); 2*buffer > has {
		return []string{fmt.Sprintf("%s: the log cleaner's buffer of %d MiB in a heap of %d", name, buffer, has)}
	}
	return nil
}

// mebibytes reads 512m or 1g.
func mebibytes(size string) int {
	n, err := strconv.Atoi(size[:len(size)-1])
	switch {
	case err == nil && strings.HasSuffix(size, "m"):
		return n
	case err == nil && strings.HasSuffix(size, "g"):
		return n << 10
	}
	return 0
}
