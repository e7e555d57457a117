package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// validationProblem turns what kin-openapi says about a request into a problem, every mistake listed.
func validationProblem(err error) *Problem {
	p := BadRequest("the request does not match the API")
	for _, e := range flatten(err) {
		var re *openapi3filter.RequestError
		if !errors.As(e, &re) {
			// Nothing but the caller's request is judged here, so whatever it is, it is the caller's.
			return BadRequest(clip(firstLine(e.Error())))
		}
		if re.Parameter == nil && strings.HasPrefix(re.Reason, "header Content-Type") {
			return unsupportedMediaType(re)
		}
		p.Errors = append(p.Errors, requestMistakes(re)...)
	}
	return p
}

func unsupportedMediaType(re *openapi3filter.RequestError) *Problem {
	allowed := slices.Sorted(maps.Keys(re.RequestBody.Content))
	return NewProblem(http.StatusUnsupportedMediaType, "Content-Type must be %s", strings.Join(allowed, " or ")).
		WithHeader("Accept", strings.Join(allowed, ", "))
}

func flatten(err error) []error {
	var all []error
	if multi, ok := err.(openapi3.MultiError); ok { //nolint:errorlint // As on a MultiError looks inside it
		for _, e := range multi {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

func requestMistakes(re *openapi3filter.RequestError) []FieldError {
	at := FieldError{In: "body"}
	if re.Parameter != nil {
		at = FieldError{In: re.Parameter.In, Path: re.Parameter.Name}
	}
	var parse *openapi3filter.ParseError
	switch {
	case errors.Is(re.Err, openapi3filter.ErrInvalidRequired):
		at.Detail = "is required"
	case errors.Is(re.Err, openapi3filter.ErrInvalidEmptyValue):
		at.Detail = "must not be empty"
	case re.Parameter != nil && errors.As(re.Err, &parse):
		at.Detail = "must be " + parameterShape(re.Parameter)
	case re.Err == nil:
		at.Detail = clip(firstLine(re.Reason))
	default:
		return schemaMistakes(at, re.Err)
	}
	return []FieldError{at}
}

func parameterShape(p *openapi3.Parameter) string {
	if p.Schema == nil || p.Schema.Value == nil {
		return "of another form"
	}
	return typeWords(p.Schema.Value)
}

// schemaMistakes lists the leaves of a tree of schema errors.
func schemaMistakes(at FieldError, err error) []FieldError {
	var all []FieldError
	for _, e := range flatten(err) {
		se, ok := e.(*openapi3.SchemaError) //nolint:errorlint // the tree is walked level by level
		if !ok {
			at := at
			at.Detail = clip(firstLine(e.Error()))
			all = append(all, at)
			continue
		}
		if nested := nestedErrors(se); nested != nil {
			all = append(all, schemaMistakes(at, nested)...)
			continue
		}
		all = append(all, schemaMistake(at, se))
	}
	return all
}

// nestedErrors returns what allOf failed by: its parts are all demanded, so each mistake stands for itself. The
// branches of oneOf and anyOf are alternatives, whose mistakes would contradict each other.
func nestedErrors(se *openapi3.SchemaError) error {
	if se.Origin == nil || (se.Schema != nil && se.SchemaField != "allOf") {
		return nil
	}
	var multi openapi3.MultiError
	for e := se.Origin; e != nil; e = errors.Unwrap(e) {
		if m, ok := e.(openapi3.MultiError); ok { //nolint:errorlint // As on a MultiError looks inside it
			multi = m
			break
		}
	}
	if multi == nil {
		return nil
	}
	return multi
}

func schemaMistake(at FieldError, se *openapi3.SchemaError) FieldError {
	path := se.JSONPointer()
	if se.SchemaField == "properties" || se.SchemaField == "additionalProperties" {
		if name, ok := quoted(se.Reason); ok {
			path = append(path, name)
		}
	}
	if at.In == "body" {
		at.Path = pointer(path)
	}
	at.Detail = clip(allowed(se))
	return at
}

// allowed says what the schema demands, from the schema itself: kin-openapi's own words are about the document.
func allowed(se *openapi3.SchemaError) string {
	s := se.Schema
	if s == nil {
		return firstLine(se.Reason)
	}
	switch se.SchemaField {
	case "type":
		return "must be " + typeWords(s)
	case "nullable":
		return "must not be null"
	case "required":
		return "is required"
	case "properties":
		return "is not a known field; known are " + strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", ")
	case "enum":
		return "must be one of " + enumWords(s.Enum)
	case "minimum":
		return "must be at least " + number(s.Min)
	case "maximum":
		return "must be at most " + number(s.Max)
	case "minLength":
		return fmt.Sprintf("must have at least %s", count(s.MinLength, "character"))
	case "maxLength":
		return fmt.Sprintf("must have at most %s", count(*s.MaxLength, "character"))
	case "pattern":
		return "must match " + s.Pattern
	case "format":
		return "must be a valid " + s.Format
	case "minItems":
		return fmt.Sprintf("must have at least %s", count(s.MinItems, "item"))
	case "maxItems":
		return fmt.Sprintf("must have at most %s", count(*s.MaxItems, "item"))
	case "uniqueItems":
		return "must not have the same item twice"
	case "minProperties", "maxProperties":
		return strings.TrimPrefix(se.Reason, "there ")
	case "oneOf", "anyOf":
		return "must match one of the forms that the API describes"
	default:
		return firstLine(strings.TrimPrefix(strings.TrimPrefix(se.Reason, "number "), "value "))
	}
}

func typeWords(s *openapi3.Schema) string {
	words := map[string]string{
		"integer": "a whole number", "number": "a number", "string": "a string", "boolean": "true or false",
		"array": "an array", "object": "an object", "null": "null",
	}
	var all []string
	for _, t := range s.Type.Slice() {
		all = append(all, words[t])
	}
	if len(all) == 0 {
		return "of another type"
	}
	return strings.Join(all, " or ")
}

func enumWords(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		if s, ok := v.(string); ok {
			words[i] = s
		} else if b, err := json.Marshal(v); err == nil {
			words[i] = string(b)
		}
	}
	return strings.Join(words, ", ")
}

func number(f *float64) string {
	if f == nil {
		return "?"
	}
	return strconv.FormatFloat(*f, 'f', -1, 64)
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// quoted returns the first %q string in text.
func quoted(text string) (string, bool) {
	_, rest, ok := strings.Cut(text, `"`)
	if !ok {
		return "", false
	}
	prefix, err := strconv.QuotedPrefix(`"` + rest)
	if err != nil {
		return "", false
	}
	name, err := strconv.Unquote(prefix)
	return name, err == nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
