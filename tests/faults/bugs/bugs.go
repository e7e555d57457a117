// Package bugs has real bugs that the fault suite must find when they are put back into the services: what finds nothing
// proves nothing. bugs.yaml lists them; no file of the product has one.
package bugs

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"

	"go.yaml.in/yaml/v3"

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
	// Changes make it.
	Changes []overlay.Change
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

// Build builds the services of the working tree at root with the bug into dir, where it also leaves the changed files.
func (b Bug) Build(ctx context.Context, root, dir string) error {
	laid, err := overlay.Write(root, dir, b.Changes...)
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	args := []string{"build", "-overlay", laid, "-o", dir + string(filepath.Separator)}
	for _, service := range client.Services() {
		args = append(args, fmt.Sprintf("./services/%[1]s/cmd/%[1]s", service))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", b.Name, err, out)
	}
	return nil
}
