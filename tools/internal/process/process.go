// Package process runs programs that this process answers for: services and servers of a stack on this machine.
//
// A process is up or down. Start, Kill and Stop move it; one that goes down without being told to is reported, and
// stays down until Start. Nothing is left running after Stop, nor, on Linux, after this process is gone in whatever way.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailLines and tailBytes bound what is shown of a log.
const (
	tailLines = 20
	tailBytes = 16 << 10
)

// Config is a program and how it ends.
type Config struct {
	// Name is what errors call it.
	Name string
	// Path is the program, absolute, and Args what comes after its name.
	Path string
	Args []string
	// Env has the form of os.Environ.
	Env []string
	// Log is the file that its output is appended to.
	Log string
	// User, if set, is whom it runs as; only root can choose.
	User *User
	// StopSignal asks it to stop; nil means SIGTERM.
	StopSignal os.Signal
	// StopState is what it ends with after that, besides "exit status 0".
	StopState string
	// StopTimeout is how long it may take before it is killed.
	StopTimeout time.Duration
	// Exited, if set, hears of an end that was not asked for: how it ended, and the last lines of its log.
	Exited func(state, log string)
}

// User is somebody else than root, for programs that do not want to be root.
type User struct{ UID, GID uint32 }

// Process is a program that can be started again and again. Its methods may be called from several goroutines.
type Process struct {
	cfg      Config
	watchers sync.WaitGroup

	mu sync.Mutex
	// up is the present run, nil while the process is down.
	up *Run
	// closed says that it is not to be started again.
	closed bool
}

// Run is one life of a process.
type Run struct {
	proc *os.Process
	// wanted says that its end was asked for.
	wanted bool
	gone   chan struct{}
	state  string
}

// New returns a process that is down.
func New(cfg Config) *Process {
	if cfg.StopSignal == nil {
		cfg.StopSignal = syscall.SIGTERM
	}
	return &Process{cfg: cfg}
}

// Gone is closed when the process has ended.
func (r *Run) Gone() <-chan struct{} { return r.gone }

// State says how it ended, after Gone: "exit status 1", "signal: killed".
func (r *Run) State() string { return r.state }

// PID is the number of the running program, 0 while the process is down.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up == nil {
		return 0
	}
	return p.up.proc.Pid
}

// Start starts the process if it is down and returns its life.
func (p *Process) Start() (*Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("start %s: the stack is being stopped", p.cfg.Name)
	}
	if p.up != nil {
		return p.up, nil
	}
	log, err := os.OpenFile(p.cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.cfg.Name, err)
	}
	cmd := &exec.Cmd{
		Path: p.cfg.Path, Args: append([]string{p.cfg.Name}, p.cfg.Args...), Env: p.cfg.Env,
		Stdout: log, Stderr: log, SysProcAttr: attributes(p.cfg.User),
	}
	r := &Run{gone: make(chan struct{})}
	started := make(chan error)
	p.watchers.Go(func() {
		// The kernel ends the child when the thread that started it ends, so this goroutine keeps its thread until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = log.Close() // the child has its own copy
		r.proc = cmd.Process
		started <- err
		if r.proc != nil {
			_ = cmd.Wait() // how it ended is in ProcessState
			p.ended(r, cmd.ProcessState.String())
		}
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.cfg.Name, err)
	}
	p.up = r
	return r, nil
}

func (p *Process) ended(r *Run, state string) {
	p.mu.Lock()
	r.state = state
	if p.up == r {
		p.up = nil
	}
	wanted := r.wanted
	p.mu.Unlock()
	close(r.gone)
	if !wanted && p.cfg.Exited != nil {
		p.cfg.Exited(state, p.Tail())
	}
}

// end notes that the end of the present life is asked for, sends the signal, and returns the life, nil if there is none.
func (p *Process) end(signal os.Signal) *Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up != nil {
		p.up.wanted = true
		// A process that has just ended, or a system without this signal: the caller waits, and kills in the end.
		_ = p.up.proc.Signal(signal)
	}
	return p.up
}

// Suspend has the process stand still until resume is called. One that is down stays down.
func (p *Process) Suspend() (resume func() error, err error) {
	p.mu.Lock()
	r := p.up
	p.mu.Unlock()
	if r == nil {
		return func() error { return nil }, nil
	}
	signal := func(s os.Signal) error {
		if err := r.proc.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("%s to %s: %w", s, p.cfg.Name, err)
		}
		return nil
	}
	return func() error { return signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// Kill ends the process with SIGKILL and returns when it is gone. One that is down stays down.
func (p *Process) Kill() error {
	r := p.end(os.Kill)
	if r == nil {
		return nil
	}
	select {
	case <-r.gone:
		return nil
	case <-time.After(p.cfg.StopTimeout):
		return fmt.Errorf("kill %s: it is still there after %s", p.cfg.Name, p.cfg.StopTimeout)
	}
}

// Stop asks the process to stop and waits; one that does not is killed, which is an error.
func (p *Process) Stop(ctx context.Context) error {
	r := p.end(p.cfg.StopSignal)
	if r == nil {
		return nil
	}
	var why string
	select {
	case <-r.gone:
		if !slices.Contains([]string{"exit status 0", p.cfg.StopState}, r.state) {
			return fmt.Errorf("%s stopped with %s; its log ends:\n%s", p.cfg.Name, r.state, p.Tail())
		}
		return nil
	case <-time.After(p.cfg.StopTimeout):
		why = "within " + p.cfg.StopTimeout.String()
	case <-ctx.Done():
		why = "before the wait was given up"
	}
	return errors.Join(fmt.Errorf("%s did not stop %s and was killed", p.cfg.Name, why), p.Kill())
}

// Close is Stop for good: Start refuses from now on.
func (p *Process) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Stop(ctx)
	p.watchers.Wait()
	return err
}

// Tail returns the last lines of the process's log, indented.
func (p *Process) Tail() string {
	f, err := os.Open(filepath.Clean(p.cfg.Log))
	if err != nil {
		return "    " + err.Error()
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd) // failing, it shows the beginning
	}
	text, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return "    " + err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return "    " + strings.Join(lines, "\n    ")
}

// WaitReady asks until the process of life r is ready, which a nil error says. It fails when the process ends, and
// when ctx does, with what was answered last.
func (p *Process) WaitReady(ctx context.Context, r *Run, ask func(ctx context.Context) error) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	answer := errors.New("no answer yet")
	for {
		select {
		case <-r.gone:
			return fmt.Errorf("%s ended before it was ready (%s); its log ends:\n%s", p.cfg.Name, r.state, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w; its log ends:\n%s", p.cfg.Name, ctx.Err(), answer, p.Tail())
		case <-ticker.C:
		}
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			answer = err
		}
	}
}

// Together runs n functions side by side; the first that fails ends the wait for the others.
func Together(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := fn(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
