package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"sigs.k8s.io/yaml"
)

// kubernetes is the version whose schemas these are; KEDA's are those of v2.21.0 (config/crd/bases). Both are under the
// Apache License 2.0.
const kubernetes = "1.36"

//go:embed schemas
var files embed.FS

// origin is where the schemas have their addresses.
const origin = "https://kubernetes.invalid/"

// roots are the kinds that are known here; a kind that is not is refused.
func roots() map[string]string {
	return map[string]string{
		"v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap", "v1/Service": "io.k8s.api.core.v1.Service",
		"v1/ServiceAccount": "io.k8s.api.core.v1.ServiceAccount", "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
		"autoscaling/v2/HorizontalPodAutoscaler": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
		"networking.k8s.io/v1/NetworkPolicy":     "io.k8s.api.networking.v1.NetworkPolicy",
		"policy/v1/PodDisruptionBudget":          "io.k8s.api.policy.v1.PodDisruptionBudget",
		"v1/Namespace":                           "io.k8s.api.core.v1.Namespace", "batch/v1/Job": "io.k8s.api.batch.v1.Job",
	}
}

// schemas are those of the kinds, by apiVersion and kind.
type schemas map[string]*jsonschema.Schema

func newSchemas() (*schemas, error) {
	text, err := files.ReadFile("schemas/kubernetes.json")
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("kubernetes.json: %w", err)
	}
	strict(document)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(origin+"kubernetes", document); err != nil {
		return nil, err
	}
	all := schemas{}
	for kind, name := range roots() {
		if all[kind], err = c.Compile(origin + "kubernetes#/components/schemas/" + name); err != nil {
			return nil, err
		}
	}
	return &all, all.addKEDA(c)
}

func (s *schemas) addKEDA(c *jsonschema.Compiler) error {
	text, err := files.ReadFile("schemas/keda.sh_scaledobjects.yaml")
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return fmt.Errorf("KEDA's ScaledObject: %w", err)
	}
	if len(crd.Spec.Versions) == 0 {
		return errors.New("KEDA's ScaledObject has no version")
	}
	for _, v := range crd.Spec.Versions {
		kind := crd.Spec.Group + "/" + v.Name + "/" + crd.Spec.Names.Kind
		// A CRD says of metadata only that it is an object; it is the same everywhere.
		v.Schema.OpenAPIV3Schema["properties"].(map[string]any)["metadata"] = map[string]any{
			"$ref": origin + "kubernetes#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
		}
		strict(v.Schema.OpenAPIV3Schema)
		if err := c.AddResource(origin+kind, v.Schema.OpenAPIV3Schema); err != nil {
			return err
		}
		if (*s)[kind], err = c.Compile(origin + kind); err != nil {
			return err
		}
	}
	return nil
}

// strict makes a schema refuse fields that it does not know, as kubectl apply does.
func strict(schema any) {
	switch node := schema.(type) {
	case []any:
		for _, each := range node {
			strict(each)
		}
	case map[string]any:
		for _, each := range node {
			strict(each)
		}
		_, fields := node["properties"].(map[string]any)
		_, more := node["additionalProperties"]
		if open, _ := node["x-kubernetes-preserve-unknown-fields"].(bool); fields && !more && !open {
			node["additionalProperties"] = false
		}
	}
}

// refusals is what the API server would say of an object.
func (s *schemas) refusals(object map[string]any) (wrong []string) {
	kind := fmt.Sprintf("%v/%v", object["apiVersion"], object["kind"])
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	at := kind + " " + name
	schema, ok := (*s)[kind]
	if !ok {
		return []string{at + ": no such kind is known here, must be one of " + strings.Join(slices.Sorted(maps.Keys(*s)), ", ")}
	}
	if !dnsLabel.MatchString(name) {
		wrong = append(wrong, fmt.Sprintf("%s: metadata.name must be letters, digits and -, at most 63", at))
	}
	var invalid *jsonschema.ValidationError
	if err := schema.Validate(object); errors.As(err, &invalid) {
		for _, cause := range causes(invalid) {
			wrong = append(wrong, fmt.Sprintf("%s: /%s: %s", at, strings.Join(cause.InstanceLocation, "/"), cause.ErrorKind.LocalizedString(english)))
		}
	} else if err != nil {
		wrong = append(wrong, at+": "+err.Error())
	}
	return wrong
}

// causes are the errors that have none below them.
func causes(err *jsonschema.ValidationError) (all []*jsonschema.ValidationError) {
	for _, cause := range err.Causes {
		all = append(all, causes(cause)...)
	}
	if len(err.Causes) == 0 {
		all = append(all, err)
	}
	return all
}

var english = message.NewPrinter(language.English)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// prune prints the schemas of the kinds that are known here, with what they refer to and without descriptions.
func prune(dir string, out io.Writer) error {
	names, err := filepath.Glob(filepath.Join(dir, "*_openapi.json"))
	if err != nil {
		return err
	}
	all := map[string]any{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var document struct {
			Components struct{ Schemas map[string]any }
		}
		if err := json.Unmarshal(text, &document); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(all, document.Components.Schemas)
	}
	kept := map[string]any{}
	var keep func(name string) error
	keep = func(name string) error {
		if _, ok := kept[name]; ok {
			return nil
		}
		schema, ok := all[name]
		if !ok {
			return fmt.Errorf("no schema %s in %s", name, dir)
		}
		kept[name] = schema
		for _, ref := range bare(schema) {
			if err := keep(strings.TrimPrefix(ref, "#/components/schemas/")); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range roots() {
		if err := keep(name); err != nil {
			return err
		}
	}
	// A quantity is a string to OpenAPI; to Kubernetes it is a number with a unit.
	kept["io.k8s.apimachinery.pkg.api.resource.Quantity"] = map[string]any{
		"type": []any{"string", "number"}, "pattern": `^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`,
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", " ")
	return encoder.Encode(map[string]any{"components": map[string]any{"schemas": kept}})
}

// bare removes from a schema what says nothing about what is valid, and returns what it refers to.
func bare(schema any) (refs []string) {
	switch node := schema.(type) {
	case []any:
		for _, each := range node {
			refs = append(refs, bare(each)...)
		}
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			refs = append(refs, ref)
		}
		for key, value := range node {
			text, isText := value.(string)
			switch {
			case key == "description" && isText, key == "default", strings.HasPrefix(key, "x-kubernetes-") && key != "x-kubernetes-preserve-unknown-fields":
				delete(node, key)
			case key == "format" && isText && text != "":
				delete(node, key)
			default:
				refs = append(refs, bare(value)...)
			}
		}
	}
	return refs
}
