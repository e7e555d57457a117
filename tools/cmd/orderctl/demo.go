package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/orderflow/orderflow/tools/internal/demo"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

// demoCmd shows everything at work on a system of its own, which goes when it is over.
type demoCmd struct {
	stackFlags `embed:""`
	Bin        string `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	Orders     int    `help:"How many mixed orders are placed at once, 10 to 10000." default:"300"`
	Seed       uint64 `help:"Seed of the random choices; 0 draws one."`
	JSON       bool   `name:"json" help:"Print one JSON document for programs."`
}

// Run prints what happened, and fails when anything was not as expected.
func (d demoCmd) Run(ctx context.Context, c console) error {
	if d.Orders < 10 || d.Orders > 10000 {
		return fmt.Errorf("--orders is %d, must be from 10 to 10000", d.Orders)
	}
	if d.Seed == 0 {
		d.Seed = rand.Uint64()
	}
	dir, err := d.tempDir()
	if err != nil {
		return err
	}
	report, err := d.play(ctx, c, dir)
	if ctx.Err() != nil {
		// Whatever failed, failed because of this.
		return errors.Join(errors.New("demo: interrupted"), os.RemoveAll(dir))
	}
	if err = errors.Join(err, removeDir(c, dir, err != nil || !report.OK)); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if d.JSON {
		if err := printJSON(c, report); err != nil {
			return err
		}
	} else {
		report.Print(c.out, terminal.For(c.out))
	}
	if !report.OK {
		return exitError(1)
	}
	return nil
}

func (d demoCmd) play(ctx context.Context, c console, dir string) (demo.Report, error) {
	start := func(ctx context.Context) (demo.System, error) { return d.start(ctx, c, d.Bin, dir, demo.Settings()) }
	return demo.Run(ctx, demo.Config{Start: start, Orders: d.Orders, Seed: d.Seed, Progress: func(format string, args ...any) {
		say(c.err, "… "+format+"\n", args...)
	}})
}

func printJSON(c console, v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
