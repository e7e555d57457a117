// Package overlay builds sources with small changes of text in them, and leaves the working tree as it is: each changed
// file is laid over the old one with go's -overlay.
//
//	file, err := overlay.Write(root, dir, overlay.Change{File: "pkg/a/a.go", Old: "x++", New: "x--"})
//	…
//	go build -overlay file …
//
// A change fits if its old text stands in its file exactly once. One that does not fit is an error and nothing is written:
// the code has moved on, and whatever the change was to show it would not show.
package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Change is New in the place of Old in File, a path below the repository's root.
type Change struct{ File, Old, New string }

// Apply returns the texts that the changed files have, by path. The error names each change that does not fit. Changes of one
// file are made one after the other.
func Apply(root string, changes ...Change) (map[string]string, error) {
	texts := map[string]string{}
	var errs []error
	for _, c := range changes {
		path := filepath.Join(root, c.File)
		if _, changed := texts[path]; !changed {
			text, err := os.ReadFile(path)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			texts[path] = string(text)
		}
		if n := strings.Count(texts[path], c.Old); c.Old == "" || n != 1 {
			errs = append(errs, fmt.Errorf("%s has %q %d times, it must be there once", c.File, c.Old, n))
			continue
		}
		texts[path] = strings.Replace(texts[path], c.Old, c.New, 1)
	}
	return texts, errors.Join(errs...)
}

// Write puts the changed files into dir, which must be there, and returns the file for go's -overlay.
func Write(root, dir string, changes ...Change) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	texts, err := Apply(root, changes...)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, path := range slices.Sorted(maps.Keys(texts)) {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(texts[path]), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, list, 0o600)
}
