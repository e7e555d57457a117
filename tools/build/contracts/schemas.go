package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// What counts as breaking. A message lies in a topic for weeks, is written by one version of a service and read by
// others, older and newer. So a released field must go on meaning the same in both directions:
//
//   - narrower (a smaller maximum, one value less, newly required) breaks writers, and what already lies in the topic;
//   - wider (a larger maximum, one value more, no longer required) breaks readers, who were promised never to meet it.
//
// Free are: a new optional field, a new message, and words (title, description, examples).

// schema is a JSON Schema as it stands in its file.
type schema map[string]any

// annotations say nothing about what is valid.
var annotations = []string{"$schema", "$id", "$comment", "$defs", "title", "description", "examples", "default", "deprecated"}

// checkSchemas names what in a released message schema was broken.
func checkSchemas(released, present string) ([]string, error) {
	before, err := readSchemas(released)
	if err != nil {
		return nil, err
	}
	after, err := readSchemas(present)
	if err != nil {
		return nil, err
	}
	var breaks []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if name == "common.json" {
			continue
		}
		now, ok := after[name]
		if !ok {
			breaks = append(breaks, "schemas/"+name+" was released and is gone")
			continue
		}
		c := comparison{before: before, after: after, name: name}
		if err := c.compare("", before[name], now); err != nil {
			return nil, fmt.Errorf("compare %s: %w", name, err)
		}
		breaks = append(breaks, c.breaks...)
	}
	return breaks, nil
}

func readSchemas(dir string) (map[string]schema, error) {
	files, err := contractFiles(dir, "*.json")
	if err != nil {
		return nil, err
	}
	schemas := make(map[string]schema, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// Numbers stay text, so that none is rounded.
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var s schema
		if err := d.Decode(&s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		schemas[filepath.Base(file)] = s
	}
	return schemas, nil
}

// comparison is that of one message.
type comparison struct {
	before, after map[string]schema
	name          string
	breaks        []string
}

func (c *comparison) report(path, format string, args ...any) {
	if path == "" {
		path = "/"
	}
	c.breaks = append(c.breaks, fmt.Sprintf("schemas/%s %s: %s", c.name, path, fmt.Sprintf(format, args...)))
}

func (c *comparison) compare(path string, before, after schema) error {
	before, err := resolve(c.before, c.name, before, 0)
	if err != nil {
		return fmt.Errorf("released, %s: %w", path, err)
	}
	after, err = resolve(c.after, c.name, after, 0)
	if err != nil {
		return fmt.Errorf("present, %s: %w", path, err)
	}
	if err := c.compareFields(path, before, after); err != nil {
		return err
	}
	c.compareRest(path, before, after)
	itemsBefore, had := asSchema(before["items"])
	itemsAfter, has := asSchema(after["items"])
	if had && has {
		return c.compare(path+"[]", itemsBefore, itemsAfter)
	}
	if had != has {
		c.report(path, "items was added or removed")
	}
	return nil
}

func (c *comparison) compareFields(path string, before, after schema) error {
	had, _ := asSchema(before["properties"])
	has, _ := asSchema(after["properties"])
	requiredBefore, requiredAfter := texts(before["required"]), texts(after["required"])
	for _, field := range slices.Sorted(maps.Keys(had)) {
		at := path + "/" + field
		now, ok := asSchema(has[field])
		if !ok {
			c.report(at, "the field was removed")
			continue
		}
		was, _ := asSchema(had[field])
		if err := c.compare(at, was, now); err != nil {
			return err
		}
	}
	for _, field := range requiredBefore {
		_, present := has[field]
		if !slices.Contains(requiredAfter, field) && present {
			c.report(path+"/"+field, "the field is no longer required: a reader counts on it")
		}
	}
	for _, field := range requiredAfter {
		if !slices.Contains(requiredBefore, field) {
			c.report(path+"/"+field, "the field is newly required: writers leave it out, and so do the messages that there are")
		}
	}
	return nil
}

// compareRest holds every other keyword to stay as it was, also those that this program knows nothing of.
func (c *comparison) compareRest(path string, before, after schema) {
	keywords := map[string]bool{}
	for k := range before {
		keywords[k] = true
	}
	for k := range after {
		keywords[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keywords)) {
		if slices.Contains(annotations, k) || k == "properties" || k == "required" || k == "items" {
			continue
		}
		was, had := before[k]
		now, has := after[k]
		switch {
		case had && has && k == "enum":
			c.compareEnum(path, was, now)
		case had && has && !reflect.DeepEqual(was, now):
			c.report(path, "%s was %v and is %v", k, was, now)
		case had && !has:
			c.report(path, "%s was %v and is gone: a reader was promised it", k, was)
		case !had && has:
			c.report(path, "%s is new, %v: writers and messages that there are do not keep to it", k, now)
		}
	}
}

func (c *comparison) compareEnum(path string, before, after any) {
	was, now := values(before), values(after)
	for _, v := range was {
		if !slices.Contains(now, v) {
			c.report(path, "enum no longer has %s", v)
		}
	}
	for _, v := range now {
		if !slices.Contains(was, v) {
			c.report(path, "enum now has %s: a reader was promised never to meet it", v)
		}
	}
}

// maxRefs bounds a chain of references; a longer one is a circle.
const maxRefs = 20

// resolve follows a reference into its own file or another, and lays what stands beside the reference over the target.
func resolve(files map[string]schema, file string, s schema, depth int) (schema, error) {
	ref, ok := s["$ref"].(string)
	if !ok {
		return s, nil
	}
	if depth == maxRefs {
		return nil, fmt.Errorf("references go round in a circle at %s", ref)
	}
	in, pointer, _ := strings.Cut(ref, "#")
	if in == "" {
		in = file
	}
	root, ok := files[in]
	name, isDef := strings.CutPrefix(pointer, "/$defs/")
	defs, _ := asSchema(root["$defs"])
	target, found := asSchema(defs[name])
	if !ok || !isDef || !found {
		return nil, fmt.Errorf("cannot follow %s", ref)
	}
	target, err := resolve(files, in, target, depth+1)
	if err != nil {
		return nil, err
	}
	target = absolute(target, in)
	for k, v := range s {
		if k == "$ref" {
			continue
		}
		if _, both := target[k]; both && !slices.Contains(annotations, k) {
			return nil, fmt.Errorf("%s stands beside %s and in it; this program cannot tell what both mean", k, ref)
		}
		target[k] = v
	}
	return target, nil
}

// absolute copies s with references into its own file named by that file, so that they hold wherever s is put.
func absolute(s schema, file string) schema {
	out := make(schema, len(s))
	for k, v := range s {
		out[k] = absoluteValue(k, v, file)
	}
	return out
}

func absoluteValue(key string, v any, file string) any {
	switch v := v.(type) {
	case string:
		if key == "$ref" && strings.HasPrefix(v, "#") {
			return file + v
		}
		return v
	case map[string]any:
		return map[string]any(absolute(v, file))
	default:
		return v
	}
}

func asSchema(v any) (schema, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case schema:
		return v, true
	default:
		return nil, false
	}
}

func texts(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// values writes each value as JSON, so that any two can be compared.
func values(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		data, err := json.Marshal(e)
		if err != nil {
			data = fmt.Appendf(nil, "%v", e)
		}
		out = append(out, string(data))
	}
	return out
}
