package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// Processes are told at which points of package failpoint to die, fail or hang, and how far their clocks are off. They must
// be built with the tag failpoints and run with Env.
type Processes struct{ dir string }

// OpenProcesses tells processes through a folder, which is created.
func OpenProcesses(dir string) (*Processes, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("open failpoints: %w", err)
	}
	return &Processes{dir}, nil
}

// Env is what every process must have in its environment, beside an INSTANCE_ID of its own; package stack calls the first
// replica "payment-1".
func (p *Processes) Env() []string { return []string{failpoint.EnvDir + "=" + p.dir} }

// Action is what a process does at a point.
type Action string

// What a process can do at a point. Package failpoint says where Fail can be.
const (
	Die  Action = "die"
	Fail Action = "fail"
)

// Hang is to wait, and to go on then.
func Hang(d time.Duration) Action { return Action("hang " + d.String()) }

// ErrArmed says that an instance has not done yet what it was told.
var ErrArmed = errors.New("it has not come yet to the point that it was told of")

// Arm tells an instance what to do the next time it comes to a point. It has one such order at a time. What is returned
// takes the order back and reports whether it had been carried out.
func (p *Processes) Arm(instance string, point failpoint.Point, do Action) (disarm func() (met bool, err error), err error) {
	path := filepath.Join(p.dir, instance)
	if p.Armed(instance) {
		return nil, fmt.Errorf("arm %s: %w", instance, ErrArmed)
	}
	if err := put(path, string(point)+" "+string(do)); err != nil {
		return nil, fmt.Errorf("arm %s: %w", instance, err)
	}
	return func() (bool, error) {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		return false, err
	}, nil
}

// Armed tells whether an instance has an order that it has not carried out.
func (p *Processes) Armed(instance string) bool {
	_, err := os.Stat(filepath.Join(p.dir, instance))
	return err == nil
}

// Met waits until an instance has come to the point that it was told of, or for ctx.
func (p *Processes) Met(ctx context.Context, instance string) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for p.Armed(instance) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", instance, ErrArmed, ctx.Err())
		}
	}
	return nil
}

// SetClock puts an instance's wall clock off by whole seconds, forwards or backwards, within 10 ms of its next reading; it
// stays so when the process is started again. Mended, it is right again, which is a jump too.
func (p *Processes) SetClock(instance string, by time.Duration) (mend func() error, err error) {
	path := filepath.Join(p.dir, instance+".clock")
	if err := put(path, by.String()); err != nil {
		return nil, fmt.Errorf("set the clock of %s: %w", instance, err)
	}
	return func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// put writes a file that is there whole or not at all.
func put(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
