// Command manifests renders the Kubernetes manifests and holds them against what a cluster accepts, without one.
//
//	manifests render <overlay>   prints what kubectl apply -k <overlay> would send
//	manifests check <folder>     renders <folder>/overlays/<environment>/<service>, each, and names everything that is wrong;
//	                             <service> may also be "cluster", which is what an environment's services need before them
//	manifests schemas <folder>   prints what schemas/kubernetes.json is, from a Kubernetes' api/openapi-spec/v3
//
// A manifest is wrong when the API server would refuse it (unknown or missing fields, types, names, by Kubernetes' own
// schemas and KEDA's), or when it breaks a rule that no API server knows (rules.go).
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manifests render <overlay> | check <folder> | schemas <folder>")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(verb, dir string, out io.Writer) error {
	switch verb {
	case "render":
		documents, err := render(dir)
		if err != nil {
			return err
		}
		_, err = out.Write(bytes.Join(documents, []byte("---\n")))
		return err
	case "check":
		return check(dir, out)
	case "schemas":
		return prune(dir, out)
	default:
		return fmt.Errorf("unknown verb %q: render, check or schemas", verb)
	}
}

// render returns an overlay's objects, a YAML document each, in an order in which they can be applied.
func render(overlay string) ([][]byte, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	objects, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", overlay, err)
	}
	var documents [][]byte
	for _, object := range objects.Resources() {
		document, err := object.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", overlay, err)
		}
		documents = append(documents, document)
	}
	return documents, nil
}

// check prints every mistake and returns an error when there are any.
func check(dir string, out io.Writer) error {
	overlays, err := filepath.Glob(filepath.Join(dir, "overlays", "*", "*"))
	if err != nil {
		return err
	}
	if len(overlays) == 0 {
		return errors.New("no overlays in " + dir)
	}
	known, err := newSchemas()
	if err != nil {
		return err
	}
	objects, mistakes := 0, 0
	for _, overlay := range overlays {
		documents, err := render(overlay)
		if err != nil {
			return err
		}
		objects += len(documents)
		all := known.mistakes(filepath.Base(overlay), documents)
		if _, err := os.Stat(filepath.Join(filepath.Dir(overlay), cluster)); err != nil {
			all = append(all, "the environment has no overlay cluster, so nothing makes its namespace and topics")
		}
		for _, wrong := range all {
			mistakes++
			if _, err := fmt.Fprintf(out, "%s: %s\n", overlay, wrong); err != nil {
				return err
			}
		}
	}
	if mistakes > 0 {
		return fmt.Errorf("%d mistakes", mistakes)
	}
	_, err = fmt.Fprintf(out, "%d overlays with %d objects: Kubernetes %s would take them.\n", len(overlays), objects, kubernetes)
	return err
}

// mistakes is everything that is wrong with the objects of one overlay.
func (s *schemas) mistakes(service string, documents [][]byte) (wrong []string) {
	objects := make([]map[string]any, len(documents))
	for i, document := range documents {
		if err := yaml.UnmarshalStrict(document, &objects[i]); err != nil {
			return append(wrong, err.Error())
		}
		wrong = append(wrong, s.refusals(objects[i])...)
	}
	if len(wrong) > 0 {
		return wrong // rules are about objects that are objects
	}
	return brokenRules(service, objects)
}
