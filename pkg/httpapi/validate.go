package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/go-chi/chi/v5"
	nethttpmiddleware "github.com/oapi-codegen/nethttp-middleware"
)

// DefaultMaxBody is the limit of a request's body in bytes unless Mount is told another.
const DefaultMaxBody = 256 << 10

// MountOptions bounds what a surface takes.
type MountOptions struct {
	// MaxBody is the limit of a request's body in bytes; zero means DefaultMaxBody.
	MaxBody int64
}

// Mount adds one API surface to r: register adds its routes (oapi-codegen's HandlerFromMux or HandlerWithOptions), and
// every request to them is validated against doc before its handler sees it. Surfaces with documents of their own
// can share a router. It changes doc: servers are removed, because a document cannot know where it is served.
func Mount(r chi.Router, doc *openapi3.T, opts MountOptions, register func(chi.Router)) {
	r.Group(func(g chi.Router) {
		g.Use(Validate(doc, opts))
		register(g)
	})
}

// Validate returns the middleware that Mount uses. It panics on a document that cannot be routed, which a start shows.
func Validate(doc *openapi3.T, opts MountOptions) func(http.Handler) http.Handler {
	if opts.MaxBody == 0 {
		opts.MaxBody = DefaultMaxBody
	}
	bySchema := nethttpmiddleware.OapiRequestValidatorWithOptions(doc, &nethttpmiddleware.Options{
		DoNotValidateServers: true,
		// The handlers decode the body again: a value that went through any has lost the types' own decoding.
		DiscardValidatedValue: true,
		Options: openapi3filter.Options{
			MultiError:         true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // the router's Identify does it
		},
		ErrorHandlerWithOpts: func(_ context.Context, err error, w http.ResponseWriter, r *http.Request, o nethttpmiddleware.ErrorHandlerOpts) {
			if o.MatchedRoute == nil {
				notFound(w, r)
				return
			}
			Write(w, r, validationProblem(err))
		},
	})
	known := queryParameters(doc)
	return func(next http.Handler) http.Handler {
		next = bySchema(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			query, p := checkStrings(r)
			if p == nil {
				p = known.check(r, query)
			}
			if p != nil {
				Write(w, r, p)
				return
			}
			if err := readBody(w, r, opts.MaxBody); err != nil {
				Write(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// checkStrings refuses paths and queries with what no database stores, and returns the query.
func checkStrings(r *http.Request) (url.Values, *Problem) {
	if !storable(r.URL.Path) {
		return nil, BadRequest("the path must be UTF-8 without the NUL character")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, BadRequest("the query is malformed: " + clip(err.Error()))
	}
	for name, values := range query {
		for _, v := range values {
			if !storable(name) || !storable(v) {
				return nil, BadRequest("the request does not match the API", FieldError{
					In: "query", Path: clip(strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", "?"), "?")), Detail: "must be UTF-8 without the NUL character",
				})
			}
		}
	}
	return query, nil
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// readBody reads the body within the limit and checks it as JSON if it says that it is; whether JSON is wanted at all
// is for the schema to say.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return NewProblem(http.StatusUnsupportedMediaType, "Content-Encoding must be identity")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, "the body did not arrive in time")
	default:
		return BadRequest(fmt.Sprintf("the body could not be read: it ends after %d bytes", len(body)))
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if len(body) > 0 && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")) {
		if p := checkJSON(body); p != nil {
			return p
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.GetBody = nil
	return nil
}
