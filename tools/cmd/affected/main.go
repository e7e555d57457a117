// Command affected lists the services that a change concerns, one a line: those whose images or manifests would not be the same.
//
//	affected [-v] [base]      base is a commit or a branch, main by default
//
// The change is what the working tree has and its last common commit with base has not. A service is concerned by every
// file that Go compiles or embeds into it, through all imports, contracts included; by the go.mod and go.sum files of
// the modules that it is made of; by the recipe of the images; and by its manifests, those that all services share
// included. Tests, testdata and documentation concern none.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// recipe are files that every image is made with.
var recipe = []string{"deploy/Dockerfile", "deploy/Dockerfile.dockerignore", "deploy/docker-bake.hcl"}

// manifests are those that every service is deployed with; services/<name> and overlays/<environment>/<name> are its own.
const manifests = "deploy/kubernetes"

func main() {
	verbose := flag.Bool("v", false, "say which files concern each service")
	flag.Parse()
	base := "main"
	if flag.NArg() > 0 {
		base = flag.Arg(0)
	}
	if err := run(".", base, *verbose, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "affected:", err)
		os.Exit(1)
	}
}

// run prints the services of the repository at dir that the change since base concerns.
func run(dir, base string, verbose bool, out io.Writer) error {
	changed, err := changes(dir, base)
	if err != nil {
		return err
	}
	services, err := services(dir)
	if err != nil {
		return err
	}
	for _, service := range services {
		s, err := sourcesOf(dir, service)
		if err != nil {
			return fmt.Errorf("service %s: %w", service, err)
		}
		why := slices.DeleteFunc(slices.Clone(changed), func(file string) bool { return !s.have(file) })
		if len(why) == 0 {
			continue
		}
		line := service
		if verbose {
			line += ": " + strings.Join(why, " ")
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// changes are the files that differ from the last common commit with base, deleted and not yet added ones included.
func changes(dir, base string) ([]string, error) {
	fork, err := output(dir, "git", "merge-base", base, "HEAD")
	if err != nil {
		return nil, err
	}
	tracked, err := output(dir, "git", "diff", "--name-only", "--no-renames", "-z", strings.TrimSpace(fork))
	if err != nil {
		return nil, err
	}
	added, err := output(dir, "git", "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return nil, err
	}
	files := map[string]bool{}
	for file := range strings.SplitSeq(tracked+added, "\x00") {
		if file != "" {
			files[file] = true
		}
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// services are the folders of services/ with a command of their name.
func services(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "services", "*", "go.mod"))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no services: run it at the top of the repository")
	}
	for i := range found {
		found[i] = filepath.Base(filepath.Dir(found[i]))
	}
	return found, nil
}

// sources is what a service is made of, as paths from the top of the repository.
type sources struct {
	// folders are those of its packages.
	folders map[string]bool
	// patterns are of files that are embedded, and of manifests.
	patterns []string
	// files are others.
	files map[string]bool
}

// listed is what go list says of a package.
type listed struct {
	Dir           string
	EmbedPatterns []string
	Module        *struct {
		Dir     string
		Main    bool
		Replace *struct{ Dir string }
	}
}

// sourcesOf asks Go for everything that the service imports, as its image is built: outside the workspace.
func sourcesOf(dir, service string) (*sources, error) {
	top, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if top, err = filepath.EvalSymlinks(top); err != nil {
		return nil, err
	}
	text, err := output(filepath.Join(dir, "services", service), "go", "list", "-deps", "-json=Dir,EmbedPatterns,Module", "./cmd/"+service)
	if err != nil {
		return nil, err
	}
	s := &sources{folders: map[string]bool{}, files: map[string]bool{}}
	for _, file := range recipe {
		s.files[file] = true
	}
	for _, pattern := range []string{"base", "environments", "services/" + service, "overlays/*/" + service} {
		s.patterns = append(s.patterns, path.Join(manifests, pattern))
	}
	packages := json.NewDecoder(strings.NewReader(text))
	for packages.More() {
		var p listed
		if err := packages.Decode(&p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		folder, ours := within(top, p.Dir)
		if !ours || p.Module == nil {
			continue
		}
		s.folders[folder] = true
		for _, pattern := range p.EmbedPatterns {
			s.patterns = append(s.patterns, path.Join(folder, strings.TrimPrefix(pattern, "all:")))
		}
		if module, ours := within(top, p.Module.Dir); ours {
			s.files[path.Join(module, "go.mod")], s.files[path.Join(module, "go.sum")] = true, true
		}
	}
	return s, nil
}

// within is path as seen from top, if it lies there.
func within(top, name string) (string, bool) {
	relative, err := filepath.Rel(top, name)
	if err != nil || relative == ".." || strings.HasPrefix(relative, ".."+string(filepath.Separator)) {
		return "", false
	}
	return filepath.ToSlash(relative), true
}

// have tells whether the service is made of the file, or would be if it were there: it may be a deleted one.
func (s *sources) have(file string) bool {
	if s.files[file] {
		return true
	}
	if s.folders[path.Dir(file)] {
		if (path.Ext(file) == ".go" && !strings.HasSuffix(file, "_test.go")) || path.Ext(file) == ".s" || path.Base(file) == "default.pgo" {
			return true
		}
	}
	for _, pattern := range s.patterns {
		// A pattern that is a folder stands for everything below it.
		for name := file; name != "."; name = path.Dir(name) {
			if ok, err := path.Match(pattern, name); err == nil && ok {
				return true
			}
		}
	}
	return false
}

func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...) //nolint:noctx // it ends with this program
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
