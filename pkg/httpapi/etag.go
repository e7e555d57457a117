package httpapi

import (
	"net/http"
	"strconv"
	"strings"
)

// ETag is the strong entity tag of a row's version.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// CheckIfMatch compares an If-Match header with a row's version by RFC 9110's strong comparison: nil when it matches or
// is empty, a 412 problem when the row has moved on, a 400 when the header is malformed.
func CheckIfMatch(header string, version int64) error {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return nil
	}
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		opaque := strings.TrimPrefix(tag, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
			return BadRequest("the request does not match the API", FieldError{
				In: "header", Path: "If-Match", Detail: `must be entity tags in double quotes, as ETag gave them, or *`,
			})
		}
		if tag == ETag(version) {
			return nil
		}
	}
	return NewProblem(http.StatusPreconditionFailed, "it has changed: its entity tag is %s now", ETag(version)).
		WithHeader("ETag", ETag(version))
}

// RequireIfMatch is CheckIfMatch where the header must be there: without it, 428.
func RequireIfMatch(header string, version int64) error {
	if strings.TrimSpace(header) == "" {
		return NewProblem(http.StatusPreconditionRequired, "the header If-Match with the entity tag from ETag is required")
	}
	return CheckIfMatch(header, version)
}
