package httpapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
)

// queries are the query parameters of each operation, by method and path as in the document, and whether one may come more
// than once.
type queries map[string]map[string]bool

func queryParameters(doc *openapi3.T) queries {
	all := queries{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			known := map[string]bool{}
			for _, p := range slices.Concat(item.Parameters, operation.Parameters) {
				if p.Value.In == openapi3.ParameterInQuery {
					known[p.Value.Name] = p.Value.Schema != nil && p.Value.Schema.Value.Type.Is(openapi3.TypeArray)
				}
			}
			all[method+" "+path] = known
		}
	}
	return all
}

// check refuses parameters that the operation does not have: a filter with a slip in its name would select everything. It
// refuses those that come twice where one would be taken and the other forgotten.
func (q queries) check(r *http.Request, given url.Values) *Problem {
	if len(given) == 0 {
		return nil
	}
	known, ok := q[r.Method+" "+chi.RouteContext(r.Context()).RoutePattern()]
	if !ok {
		return nil // no operation of the document, which the validation answers
	}
	var mistakes []FieldError
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch list, ok := known[name]; {
		case !ok && len(known) == 0:
			mistakes = append(mistakes, FieldError{In: "query", Path: clip(name), Detail: "is not a parameter; there are none"})
		case !ok:
			allowed := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			mistakes = append(mistakes, FieldError{In: "query", Path: clip(name), Detail: "is not a parameter, must be one of " + allowed})
		case !list && len(given[name]) > 1:
			mistakes = append(mistakes, FieldError{In: "query", Path: name, Detail: "must be given once"})
		}
	}
	if len(mistakes) == 0 {
		return nil
	}
	return BadRequest("the request does not match the API", mistakes...)
}
