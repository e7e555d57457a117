package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/orderflow/orderflow/tools/internal/compose"
	"github.com/orderflow/orderflow/tools/internal/demo"
	"github.com/orderflow/orderflow/tools/stack"
)

// stackFlags choose the servers of a system on this machine, for every command that runs one.
type stackFlags struct {
	Stack     string `help:"The servers: embedded ones, or native Apache Kafka, Redis and PostgreSQL; 'demo' and 'run' also take compose, with everything in Docker's containers." enum:"embedded,native,compose" default:"embedded" env:"STACK"`
	Nodes     int    `name:"brokers" help:"Number of Kafka brokers of the native stack: 1 or 3." default:"1" env:"BROKERS"`
	NativeDir string `help:"Folder of the native stack: Kafka's jars, and the data of its servers." default:".data/native" type:"path" env:"NATIVE_DIR"`
}

// native is what stack.Options wants to know, nil for the embedded stack.
func (f stackFlags) native() (*stack.Native, error) {
	if f.Stack == "native" {
		return &stack.Native{Libs: filepath.Join(f.NativeDir, "libs"), Brokers: f.Nodes}, nil
	}
	if f.Stack == "compose" {
		return nil, errors.New("--stack=compose is for 'demo' and 'run' of all services; to keep such a system running: docker compose up --build --wait")
	}
	if f.Nodes != 1 {
		return nil, errors.New("--brokers is for --stack=native: the embedded Kafka is one broker")
	}
	return nil, nil //nolint:nilnil // the embedded stack
}

// dir is the folder of the system that lasts.
func (f stackFlags) dir() string {
	if f.Stack == "native" {
		return filepath.Join(f.NativeDir, "up")
	}
	return filepath.Join(".data", "embedded")
}

// tempDir makes the folder of a system that goes when it has done its work. That of native servers lies beside the
// others, where `orderctl reset` finds what a crash left.
func (f stackFlags) tempDir() (string, error) {
	if f.Stack != "native" {
		return os.MkdirTemp("", "orderflow-")
	}
	if err := os.MkdirAll(f.NativeDir, 0o750); err != nil {
		return "", err
	}
	return os.MkdirTemp(f.NativeDir, "run-")
}

// system is a whole Orderflow that a command runs for as long as it works.
type system interface {
	demo.System
	// Env are the variables by which programs find it.
	Env() []string
}

// start starts a system with its files in dir.
func (f stackFlags) start(ctx context.Context, c console, bin, dir string, env map[string][]string) (system, error) {
	if f.Stack == "compose" {
		file, err := filepath.Abs("docker-compose.yml")
		if err != nil {
			return nil, err
		}
		return compose.Start(ctx, compose.Options{File: file, Project: "orderflow-run", Dir: dir, Env: env, Progress: c.err})
	}
	opts, err := f.options(bin, dir, env)
	if err != nil {
		return nil, err
	}
	return stack.Start(ctx, opts)
}

// removeDir removes the folder of a system that has done its work, and says where it is when it is kept.
func removeDir(c console, dir string, keep bool) error {
	if keep && worthKeeping(dir) {
		say(c.err, "orderctl: databases and logs are kept in %s\n", dir)
		return nil
	}
	return os.RemoveAll(dir)
}

// worthKeeping tells whether there is anything in dir but folders and the lock: a system that was refused made nothing.
func worthKeeping(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		found = found || err != nil || (!entry.IsDir() && entry.Name() != stack.LockFile)
		return nil
	})
	return found
}

// options are those of a system on these servers.
func (f stackFlags) options(bin, dir string, env map[string][]string) (stack.Options, error) {
	native, err := f.native()
	if err != nil {
		return stack.Options{}, err
	}
	folder, err := binFolder(bin)
	if err != nil {
		return stack.Options{}, err
	}
	return stack.Options{Bin: folder, Dir: dir, Env: env, Native: native}, nil
}
