package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/orderflow/orderflow/api"
	"github.com/orderflow/orderflow/api/events/internal/accept"
)

// schemaBase is where the schemas' $id says that they are. Nothing is ever fetched from there.
const schemaBase = "https://orderflow.example/schemas/"

// maxViolations bounds an error's length: a message of nothing but mistakes shall not fill a log.
const maxViolations = 10

// Violation is one place where a message breaks its schema.
type Violation struct {
	// Path is a JSON pointer to the field (RFC 6901): "/lines/0/quantity"; "/" is the whole message.
	Path string
	// Allowed says what may stand there.
	Allowed string
}

// InvalidError says where a message breaks its schema. It repeats no value of the message.
type InvalidError struct {
	// Type is the message type.
	Type string
	// Violations are at most 10, ordered by path.
	Violations []Violation
}

// Error names each path and what is allowed there.
func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		parts[i] = v.Path + " " + v.Allowed
	}
	return e.Type + " breaks its schema: " + strings.Join(parts, "; ")
}

// schema is one message's schema.
type schema struct {
	// quick accepts most valid messages at a fraction of the cost. It is nil if the schema says what package accept does not know.
	quick *accept.Checker
	// unknown is what that is.
	unknown error
	// full decides about all others, and says what is wrong.
	full *jsonschema.Schema
}

// compiled are the schemas by message type. They are part of the binary, so a broken one is a broken build: panic.
var compiled = sync.OnceValue(func() map[string]schema {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	add := func(name string) {
		data, err := api.Schemas.ReadFile("schemas/" + name)
		if err != nil {
			panic(fmt.Sprintf("schema %s: %v", name, err))
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			panic(fmt.Sprintf("schema %s: %v", name, err))
		}
		if err := c.AddResource(schemaBase+name, doc); err != nil {
			panic(fmt.Sprintf("schema %s: %v", name, err))
		}
	}
	add("common.json")
	for _, m := range registry {
		add(m.Type + ".json")
	}
	var quick accept.Compiler
	schemas := make(map[string]schema, len(registry))
	for _, m := range registry {
		s := schema{full: c.MustCompile(schemaBase + m.Type + ".json")}
		s.quick, s.unknown = quick.Compile(s.full)
		schemas[m.Type] = s
	}
	return schemas
})

// Validate checks a message body against the schema of its type. The error is ErrUnknownType (wrapped) or an
// *InvalidError.
func Validate(typ string, data []byte) error {
	s, ok := compiled()[typ]
	if !ok {
		return fmt.Errorf("%w %q", ErrUnknownType, cut(typ))
	}
	if s.quick.Accepts(data) {
		return nil
	}
	return check(typ, s.full, data)
}

// check is Validate by the whole schema.
func check(typ string, full *jsonschema.Schema, data []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		// The decoder's own words may quote the body, so they stay out.
		return &InvalidError{Type: typ, Violations: []Violation{{Path: "/", Allowed: "must be one JSON value"}}}
	}
	if !affordable(doc) {
		return &InvalidError{Type: typ, Violations: []Violation{{Path: "/", Allowed: fmt.Sprintf("must have no number of more than %d characters or three digits of exponent", maxNumber)}}}
	}
	err = full.Validate(doc)
	if err == nil {
		return nil
	}
	broken, ok := err.(*jsonschema.ValidationError) //nolint:errorlint // Validate documents this very type.
	if !ok {
		return fmt.Errorf("validate %s: %w", typ, err)
	}
	found := violations(nil, broken)
	slices.SortFunc(found, func(a, b Violation) int {
		return strings.Compare(a.Path+" "+a.Allowed, b.Path+" "+b.Allowed)
	})
	found = slices.Compact(found)
	return &InvalidError{Type: typ, Violations: found[:min(len(found), maxViolations)]}
}

// maxNumber is how many characters a number may have. The largest that a schema allows has 16.
const maxNumber = 40

// affordable reports whether all numbers are cheap to compare. The validator computes exactly, so that each
// "1e999999" costs it tens of milliseconds, and a record could hold thousands of them, in unknown fields too.
func affordable(doc any) bool {
	switch v := doc.(type) {
	case json.Number:
		_, exponent, _ := strings.Cut(strings.ToLower(v.String()), "e")
		return len(v) <= maxNumber && len(strings.TrimLeft(exponent, "+-")) <= 3
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !affordable(e) })
	case map[string]any:
		for _, e := range v {
			if !affordable(e) {
				return false
			}
		}
	}
	return true
}

// violations collects the leaves of the tree of causes: the inner nodes only say that something below is wrong.
func violations(found []Violation, e *jsonschema.ValidationError) []Violation {
	for _, cause := range e.Causes {
		found = violations(found, cause)
	}
	if len(e.Causes) > 0 {
		return found
	}
	if missing, ok := e.ErrorKind.(*kind.Required); ok {
		for _, field := range missing.Missing {
			found = append(found, Violation{Path: pointer(append(slices.Clone(e.InstanceLocation), field)), Allowed: "is required"})
		}
		return found
	}
	return append(found, Violation{Path: pointer(e.InstanceLocation), Allowed: allowed(e.ErrorKind)})
}

// allowed says what the schema wants, without what it got.
func allowed(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		return fmt.Sprintf("must be one of %v", k.Want)
	case *kind.Const:
		return fmt.Sprintf("must be %v", k.Want)
	case *kind.Format:
		return "must be a " + k.Want
	case *kind.Pattern:
		return "must match " + k.Want
	case *kind.MinLength:
		return count("must have at least", k.Want, "characters")
	case *kind.MaxLength:
		return count("must have at most", k.Want, "characters")
	case *kind.MinItems:
		return count("must have at least", k.Want, "items")
	case *kind.MaxItems:
		return count("must have at most", k.Want, "items")
	case *kind.Minimum:
		return "must be at least " + k.Want.RatString()
	case *kind.Maximum:
		return "must be at most " + k.Want.RatString()
	default:
		return "breaks " + strings.Join(k.KeywordPath(), "/")
	}
}

func count(words string, n int, unit string) string {
	return words + " " + strconv.Itoa(n) + " " + unit
}

// pointer writes a path as RFC 6901 does, but for the whole document, which is "/" here: an empty text reads badly.
func pointer(path []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, p := range path {
		b.WriteString("/" + escape.Replace(p))
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// cut bounds a name that came from outside.
func cut(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
