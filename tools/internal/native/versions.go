package native

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
)

// Versions are the servers' versions as they tell them themselves, Kafka's by its jar; what cannot be told is left out.
func Versions(ctx context.Context, libs string) []string {
	var versions []string
	if jars, err := filepath.Glob(filepath.Join(libs, "kafka_2.13-*.jar")); err == nil && len(jars) > 0 {
		name := strings.TrimSuffix(filepath.Base(jars[0]), ".jar")
		versions = append(versions, "Apache Kafka "+strings.TrimPrefix(name, "kafka_2.13-"))
	}
	say := func(path string, err error, args ...string) {
		if err != nil {
			return
		}
		// The first line of what goes to either output, for Java writes to the other one.
		if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			versions = append(versions, line)
		}
	}
	java, err := javaPath()
	say(java, err, "-version")
	bin, err := postgresBin()
	say(filepath.Join(bin, "postgres"), err, "--version")
	redis, err := redisPath()
	say(redis, err, "--version")
	return versions
}
