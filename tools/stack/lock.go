package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/orderflow/orderflow/pkg/devstack"
)

// LockFile is the name of the file in a stack's folder that is locked while the stack runs.
const LockFile = "stack.lock"

// ErrRunning says that a stack already uses the folder.
var ErrRunning = errors.New("a stack is already running")

// take locks the folder and writes down who has it. It also tells whether whoever had it before has crashed.
func take(dir string) (lock *os.File, crashed bool, err error) {
	lock, err = devstack.Lock(filepath.Join(dir, LockFile))
	if errors.Is(err, devstack.ErrInUse) {
		return nil, false, fmt.Errorf("%w in %s", ErrRunning, dir)
	} else if err != nil {
		return nil, false, err
	}
	if info, err := lock.Stat(); err == nil {
		crashed = info.Size() > 0
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(lock, os.Getpid())
	}
	if err != nil {
		return nil, false, errors.Join(err, lock.Close())
	}
	return lock, crashed, nil
}

// release lets the folder go.
func release(lock *os.File) error { return errors.Join(lock.Truncate(0), lock.Close()) }

// StopOther asks the process whose stack uses dir to stop it, and returns when it has: false if there is none.
func StopOther(ctx context.Context, dir string) (found bool, err error) {
	path := filepath.Join(dir, LockFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	for asked := false; ; asked = true {
		lock, err := devstack.Lock(path)
		if err == nil {
			return asked, lock.Close()
		}
		if !errors.Is(err, devstack.ErrInUse) {
			return asked, err
		}
		if !asked {
			if err := terminate(path); err != nil {
				return true, err
			}
		}
		select {
		case <-ctx.Done():
			return true, fmt.Errorf("the stack in %s has not stopped: %w", dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Remove removes the folder of a stack that is not running.
func Remove(dir string) error {
	lock, err := devstack.Lock(filepath.Join(dir, LockFile))
	if errors.Is(err, devstack.ErrInUse) {
		return fmt.Errorf("%w in %s", ErrRunning, dir)
	} else if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), lock.Close())
}

func terminate(path string) error {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s does not say which process it is: %w", path, err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(syscall.SIGTERM)
}
