// Command contracts holds the contracts in api/ against those that were last released.
//
//	contracts check <api>     fails, and names each one, when a released schema or path was broken
//	contracts release <api>   checks, then makes the present contracts the released ones
//
// Released are api/released/schemas and api/released/openapi. What has not been released yet may change at will.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: contracts check|release <api folder>")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "contracts:", err)
		os.Exit(1)
	}
}

func run(verb, dir string, out io.Writer) error {
	switch verb {
	case "check":
		return check(dir, out)
	case "release":
		if err := check(dir, out); err != nil {
			return err
		}
		return release(dir, out)
	default:
		return fmt.Errorf("unknown verb %q: check or release", verb)
	}
}

// check prints every breaking change and returns an error when there are any.
func check(dir string, out io.Writer) error {
	schemas, err := checkSchemas(filepath.Join(dir, "released", "schemas"), filepath.Join(dir, "schemas"))
	if err != nil {
		return err
	}
	documents, err := checkOpenAPI(filepath.Join(dir, "released", "openapi"), filepath.Join(dir, "openapi"))
	if err != nil {
		return err
	}
	breaks := slices.Concat(schemas, documents)
	if len(breaks) == 0 {
		_, err := fmt.Fprintln(out, "Nothing that was released is broken.")
		return err
	}
	for _, b := range breaks {
		if _, err := fmt.Fprintln(out, b); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d breaking changes: add an optional field, or a message type or path of a new version, beside the old one", len(breaks))
}

// release copies the contracts. Files that are no longer there stay released: check has seen to it that there are none.
func release(dir string, out io.Writer) error {
	for folder, pattern := range map[string]string{"schemas": "*.json", "openapi": "*.yaml"} {
		to := filepath.Join(dir, "released", folder)
		if err := os.MkdirAll(to, 0o750); err != nil {
			return err
		}
		files, err := contractFiles(filepath.Join(dir, folder), pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o600); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "Released %d files of %s.\n", len(files), folder); err != nil {
			return err
		}
	}
	return nil
}

// contractFiles lists the contracts in a folder, the generator's settings excepted. None at all is a mistake: an
// empty list would make every check pass.
func contractFiles(dir, pattern string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return nil, err
	}
	files := found[:0]
	for _, file := range found {
		if !strings.HasPrefix(filepath.Base(file), "oapi-codegen") {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no " + pattern + " in " + dir)
	}
	return files, nil
}
