package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// process is a service that can be started again and again.
type process struct {
	name, binary, addr, logPath string
	env                         []string
	stopTimeout                 time.Duration
	// exited hears of an end that was not asked for.
	exited func(state, log string)

	mu sync.Mutex
	// up is the present run, nil while the service is down.
	up *run
	// closed says that it is not to be started again.
	closed bool
}

// run is one life of a process.
type run struct {
	proc *os.Process
	// wanted says that its end was asked for.
	wanted bool
	// gone is closed when the process has ended; state is set before.
	gone  chan struct{}
	state string
}

// start starts the process if it is down and returns its life. The watcher is counted in watchers.
func (p *process) start(watchers *sync.WaitGroup) (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("start %s: the stack is being stopped", p.name)
	}
	if p.up != nil {
		return p.up, nil
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	cmd := &exec.Cmd{Path: p.binary, Args: []string{p.name}, Env: p.env, Stdout: log, Stderr: log, SysProcAttr: attributes()}
	r := &run{gone: make(chan struct{})}
	started := make(chan error)
	watchers.Go(func() {
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
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.up = r
	return r, nil
}

// close has start refuse from now on.
func (p *process) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (p *process) ended(r *run, state string) {
	p.mu.Lock()
	r.state = state
	if p.up == r {
		p.up = nil
	}
	wanted := r.wanted
	p.mu.Unlock()
	close(r.gone)
	if !wanted {
		p.exited(state, tail(p.logPath))
	}
}

// end notes that the end of the present life is asked for, sends the signal, and returns the life, nil if there is none.
func (p *process) end(signal os.Signal) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up != nil {
		p.up.wanted = true
		// A process that has just ended, or a system without this signal: the caller waits, and kills in the end.
		_ = p.up.proc.Signal(signal)
	}
	return p.up
}

func (p *process) kill() error {
	r := p.end(os.Kill)
	if r == nil {
		return nil
	}
	select {
	case <-r.gone:
		return nil
	case <-time.After(p.stopTimeout):
		return fmt.Errorf("kill %s: it is still there after %s", p.name, p.stopTimeout)
	}
}

// stop asks the process to stop and waits; one that does not is killed, which is an error.
func (p *process) stop(ctx context.Context) error {
	r := p.end(syscall.SIGTERM)
	if r == nil {
		return nil
	}
	var why string
	select {
	case <-r.gone:
		if r.state != "exit status 0" {
			return fmt.Errorf("%s stopped with %s; its log ends:\n%s", p.name, r.state, tail(p.logPath))
		}
		return nil
	case <-time.After(p.stopTimeout):
		why = "within " + p.stopTimeout.String()
	case <-ctx.Done():
		why = "before the wait was given up"
	}
	return errors.Join(fmt.Errorf("%s did not stop %s and was killed", p.name, why), p.kill())
}

// tail returns the last lines of a log, indented.
func tail(path string) string {
	f, err := os.Open(filepath.Clean(path))
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
