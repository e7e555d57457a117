package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/tools/internal/native"
	"github.com/orderflow/orderflow/tools/stack"
)

// Machine is where figures were measured, and on what.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	// Revision is the commit that the driver was built of, with "+changes" when there were any; empty when it does not know.
	Revision string   `json:"revision,omitempty"`
	Servers  []string `json:"servers"`
}

// embeddedServers are the modules that the embedded servers and the databases are.
var embeddedServers = []string{"github.com/twmb/franz-go/pkg/kfake", "github.com/alicebob/miniredis/v2", "modernc.org/sqlite"}

func machine(ctx context.Context, opts stack.Options) Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: field("/proc/meminfo", "MemTotal"),
		Go: runtime.Version(),
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if opts.Native != nil {
		m.Servers = native.Versions(ctx, opts.Native.Libs)
		m.Servers = append(m.Servers, fmt.Sprintf("Kafka nodes: %d, each JVM: %s", opts.Native.Brokers, strings.Join(opts.Native.JVM, " ")))
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return m
	}
	if opts.Native == nil {
		for _, d := range info.Deps {
			if slices.Contains(embeddedServers, d.Path) {
				m.Servers = append(m.Servers, d.Path+" "+d.Version)
			}
		}
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			m.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			m.Revision += "+changes"
		}
	}
	return m
}

// field is the first value of a name in a file of "name: value" lines, "unknown" where there is none.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
	}
	return "unknown"
}
