// Package bugs has real bugs that the fault suite must find when they are put back into the services: what finds nothing
// proves nothing. bugs.yaml lists them; no file of the product has one.
//
// Each has a plan with the fault that makes it show, since a seed may break everything but that. `make prove-checker` plays each
// twice: with the bug the checker must name it, without the bug it must find nothing.
package bugs

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/tests/faults"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/overlay"
)

//go:embed bugs.yaml
var list []byte

// Bug is a mechanism that is missing or wrong.
type Bug struct {
	// Name is the bug's, Breaks what no longer holds with it.
	Name   string `yaml:"bug"`
	Breaks string
	// In are the services that have it.
	In []string
	// Changes make it.
	Changes []overlay.Change
	// Plan makes it show.
	Plan faults.Plan
	// Finding is the name of the finding that must be wrong then, and Says a pattern for what it must say.
	Finding, Says string
}

// All returns the bugs of bugs.yaml.
func All() (bugs []Bug, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(list))
	dec.KnownFields(true)
	if err = dec.Decode(&bugs); err != nil {
		err = fmt.Errorf("bugs.yaml: %w", err)
	}
	return bugs, err
}

// Build builds the services that have the bug, from the working tree at root into dir, where it leaves the changed files too. The
// other services are those of bin, which `make build-faults` builds.
func (b Bug) Build(ctx context.Context, root, bin, dir string) error {
	laid, err := overlay.Write(root, dir, b.Changes...)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	args := []string{"build", "-tags", "failpoints", "-overlay", laid, "-o", dir + string(filepath.Separator)}
	for _, service := range client.Services() {
		if slices.Contains(b.In, service) {
			args = append(args, fmt.Sprintf("./services/%[1]s/cmd/%[1]s", service))
		} else if err := os.Symlink(filepath.Join(bin, service), filepath.Join(dir, service)); err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", b.Name, err, out)
	}
	return nil
}
