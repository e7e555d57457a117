package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"
)

// checkOpenAPI names what in a released OpenAPI document was broken. What oasdiff calls a warning (it may break some
// client) does not count.
func checkOpenAPI(released, present string) ([]string, error) {
	files, err := contractFiles(released, "*.yaml")
	if err != nil {
		return nil, err
	}
	var breaks []string
	for _, file := range files {
		name := filepath.Base(file)
		now := filepath.Join(present, name)
		if _, err := os.Stat(now); errors.Is(err, fs.ErrNotExist) {
			breaks = append(breaks, "openapi/"+name+" was released and is gone")
			continue
		}
		found, err := compareOpenAPI(file, now)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", name, err)
		}
		for _, b := range found {
			breaks = append(breaks, "openapi/"+name+" "+b)
		}
	}
	return breaks, nil
}

func compareOpenAPI(released, present string) ([]string, error) {
	before, err := loadOpenAPI(released)
	if err != nil {
		return nil, err
	}
	after, err := loadOpenAPI(present)
	if err != nil {
		return nil, err
	}
	report, sources, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), before, after)
	if err != nil {
		return nil, err
	}
	var breaks []string
	config := checker.NewConfig(checker.GetAllChecks())
	for _, change := range checker.CheckBackwardCompatibilityUntilLevel(config, report, sources, checker.ERR) {
		text := change.GetUncolorizedText(checker.NewDefaultLocalizer())
		breaks = append(breaks, strings.TrimSpace(change.GetOperation()+" "+change.GetPath()+": "+text))
	}
	return breaks, nil
}

// loadOpenAPI takes a loader for each document: one keeps what it has read.
func loadOpenAPI(file string) (*load.SpecInfo, error) {
	return load.NewSpecInfo(openapi3.NewLoader(), &load.Source{Path: file, Type: load.SourceTypeFile})
}
