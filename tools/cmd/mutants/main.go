// Command mutants takes the mechanism out of each guarantee, one at a time, and expects the test that guards it to
// fail: a guarantee whose test cannot fail is not one. mutants.yaml lists them. The working tree is not touched, see
// package overlay.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/tools/overlay"
)

//go:embed mutants.yaml
var list []byte

// mutant is one mechanism taken out.
type mutant struct {
	// Guarantee is the sentence that is broken.
	Guarantee string

	overlay.Change `yaml:",inline"`
	// Module, Package and Tests say which tests must fail: Tests is a pattern for go test -run.
	Module, Package, Tests string
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run plays the mutants whose guarantee or file contains one of the words, or all of them.
func run(ctx context.Context, words []string) error {
	mutants, err := listed()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var survived []string
	for i, m := range mutants {
		if !wanted(m, words) {
			continue
		}
		started := time.Now()
		red, err := play(ctx, m, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return fmt.Errorf("%s: %w", m.Guarantee, err)
		}
		if len(red) == 0 {
			survived = append(survived, m.Guarantee)
		}
		fmt.Printf("%s\n  %s\n  - %s\n  + %s\n  red: %s (%.1fs)\n\n", m.Guarantee, m.File, line(m.Old), line(m.New),
			strings.Join(red, ", "), time.Since(started).Seconds())
	}
	if len(survived) > 0 {
		return fmt.Errorf("%d of these are guarded by no test: %s", len(survived), strings.Join(survived, "; "))
	}
	return nil
}

// listed is what mutants.yaml has.
func listed() (mutants []mutant, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(list))
	dec.KnownFields(true)
	err = dec.Decode(&mutants)
	return mutants, err
}

func wanted(m mutant, words []string) bool {
	for _, w := range words {
		if strings.Contains(strings.ToLower(m.Guarantee+m.File), strings.ToLower(w)) {
			return true
		}
	}
	return len(words) == 0
}

func line(s string) string { return strings.Join(strings.Fields(s), " ") }

var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// play runs the tests over one mutant and returns the names of those that failed. A mutant that does not compile, or
// whose Old is not there, is an error: it proves nothing.
func play(ctx context.Context, m mutant, dir string) ([]string, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	laid, err := overlay.Write(".", dir, m.Change)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", laid, "-count=1", "-timeout=180s", "-run", m.Tests, m.Package)
	cmd.Dir = m.Module
	out, err := cmd.CombinedOutput()
	var red []string
	for _, match := range failed.FindAllStringSubmatch(string(out), -1) {
		red = append(red, match[1])
	}
	switch {
	case err == nil:
		return nil, nil
	case len(red) == 0 && strings.Contains(string(out), "panic: test timed out"):
		return []string{m.Tests + " (timed out)"}, nil
	case len(red) == 0:
		return nil, fmt.Errorf("no test ran:\n%s", out)
	}
	return red, nil
}
