package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/orderflow/orderflow/tools/stack"
)

// downCmd stops what `orderctl up` runs in another terminal.
type downCmd struct {
	stackFlags `embed:""`
	Dir        string        `help:"Folder that up was given." type:"path"`
	Wait       time.Duration `help:"How long to wait until everything has stopped." default:"60s"`
}

// Run may be called when nothing is running.
func (d downCmd) Run(ctx context.Context, c console) error {
	if d.Dir == "" {
		d.Dir = d.dir()
	}
	ctx, cancel := context.WithTimeout(ctx, d.Wait)
	defer cancel()
	found, err := stack.StopOther(ctx, d.Dir)
	switch {
	case err != nil:
		return err
	case found:
		say(c.out, "Stopped. The data stay in %s.\n", d.Dir)
	default:
		say(c.out, "Nothing is running in %s.\n", d.Dir)
	}
	return nil
}

// resetCmd removes the data of `orderctl up`, and what runs that crashed have left.
type resetCmd struct {
	downCmd `embed:""`
}

// Run stops the system first.
func (r resetCmd) Run(ctx context.Context, c console) error {
	if r.Dir == "" {
		r.Dir = r.dir()
	}
	if err := r.downCmd.Run(ctx, c); err != nil {
		return err
	}
	dirs := []string{r.Dir}
	if r.Stack == "native" {
		runs, err := filepath.Glob(filepath.Join(r.NativeDir, "run-*"))
		if err != nil {
			return err
		}
		dirs = append(dirs, runs...)
	}
	var errs []error
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := stack.Remove(dir); err != nil {
			errs = append(errs, fmt.Errorf("%w: left as it is", err))
			continue
		}
		say(c.out, "Removed %s.\n", dir)
	}
	return errors.Join(errs...)
}
