package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/observe"
)

// retryAfter is what a 503 asks a client to wait, in seconds.
const retryAfter = 2

// maxFieldErrors bounds how many mistakes one answer lists.
const maxFieldErrors = 50

// Problem is an RFC 9457 problem. It is an error, so that a handler can return it from any depth.
type Problem struct {
	// Type is a URI reference that names the kind of problem; empty means about:blank: the status says it all.
	Type string `json:"type"`
	// Title is the kind in words, the same for all of its kind.
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail says what is wrong with this request and what would be right.
	Detail string `json:"detail,omitempty"`
	// Instance is the path that was asked for.
	Instance string `json:"instance,omitempty"`
	// RequestID finds the request in the logs.
	RequestID string `json:"request_id,omitempty"`
	// Errors are the single mistakes in the request, at most 50.
	Errors []FieldError `json:"errors,omitempty"`

	header http.Header
}

// FieldError is one mistake in a request.
type FieldError struct {
	// In is where: body, query, path or header.
	In string `json:"in"`
	// Path is a JSON pointer into the body ("/lines/0/quantity"), empty for the body as a whole, or a parameter's name.
	Path string `json:"path"`
	// Detail says what is wrong or what is allowed: "must be at most 1000".
	Detail string `json:"detail"`
}

// Error is the title and detail in one line.
func (p *Problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for _, e := range p.Errors {
		text += fmt.Sprintf("; %s %s %s", e.In, e.Path, e.Detail)
	}
	return text
}

// NewProblem returns a problem of the status with its standard title.
func NewProblem(status int, format string, args ...any) *Problem {
	return &Problem{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(format, args...)}
}

// BadRequest is a 400 that lists the mistakes.
func BadRequest(detail string, mistakes ...FieldError) *Problem {
	p := NewProblem(http.StatusBadRequest, "%s", detail)
	p.Errors = mistakes
	return p
}

// Unprocessable is a 422 that lists the mistakes: well-formed, but not doable, such as an unknown SKU.
func Unprocessable(detail string, mistakes ...FieldError) *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, "%s", detail)
	p.Errors = mistakes
	return p
}

// NotFound is a 404.
func NotFound(format string, args ...any) *Problem {
	return NewProblem(http.StatusNotFound, format, args...)
}

// Conflict is a 409: the thing's state does not allow it.
func Conflict(format string, args ...any) *Problem {
	return NewProblem(http.StatusConflict, format, args...)
}

// WithHeader returns p with a header for the answer.
func (p *Problem) WithHeader(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// ProblemOf is the table from errors to problems; see the package's doc. The result may be changed.
func ProblemOf(err error) *Problem {
	var p *Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		c := *p
		c.header = p.header.Clone()
		return &c
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, "the body must be at most %d bytes", tooLarge.Limit)
	}
	switch fault.KindOf(err) {
	case fault.Permanent:
		return NewProblem(http.StatusUnprocessableEntity, "%s", observe.Mask(err.Error()))
	case fault.Unavailable:
		return NewProblem(http.StatusServiceUnavailable, "something that this service needs is away; try again").
			WithHeader("Retry-After", strconv.Itoa(retryAfter))
	default:
		return NewProblem(http.StatusInternalServerError, "an unexpected error; the request id finds it in the logs")
	}
}

// Write answers with err's problem. The error itself is kept for the request's log line, where a 5xx shows it.
// It is the ResponseErrorHandlerFunc of oapi-codegen's strict servers.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(err)
	p.Instance = r.URL.EscapedPath()
	if x := exchangeFrom(r.Context()); x != nil {
		x.err = err
		p.RequestID = x.requestID
	}
	// A handler that failed half-way may have set headers that describe the answer it did not give.
	w.Header().Del("ETag")
	w.Header().Del("Location")
	w.Header().Del("Content-Length")
	// The client may be gone; there is nobody to tell.
	_ = p.Response().Write(w)
}

// WriteRequestError answers a request that could not be decoded: always the caller's mistake, whatever the error's
// kind. It is the RequestErrorHandlerFunc of oapi-codegen's strict servers and the ErrorHandlerFunc of its chi servers.
func WriteRequestError(w http.ResponseWriter, r *http.Request, err error) {
	var p *Problem
	var tooLarge *http.MaxBytesError
	if errors.As(err, &p) || errors.As(err, &tooLarge) {
		Write(w, r, err)
		return
	}
	Write(w, r, decodeProblem(err))
}

func decodeProblem(err error) *Problem {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return BadRequest("the request does not match the API", FieldError{
			In: "body", Path: pointerOfField(wrongType.Field), Detail: fmt.Sprintf("must be %s, is %s", goKind(wrongType.Type), wrongType.Value),
		})
	}
	// The parameter errors of oapi-codegen are types of each generated package; what they share is the parameter's
	// name in their message.
	return BadRequest(observe.Mask(err.Error()))
}

// Response is the problem as an answer that can be stored under an idempotency key.
func (p *Problem) Response() Response {
	c := *p
	if c.Type == "" {
		c.Type = "about:blank"
	}
	if len(c.Errors) > maxFieldErrors {
		c.Errors = c.Errors[:maxFieldErrors]
	}
	body, err := json.Marshal(c)
	if err != nil { // strings and ints only: cannot happen
		body = []byte(`{"title":"Internal Server Error","status":500}`)
	}
	header := p.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	return Response{Status: p.Status, Header: header, Body: append(body, '\n')}
}
