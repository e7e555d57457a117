// Package httpapi is what every REST surface needs around its handlers: problems (RFC 9457), validation against the
// OpenAPI document, idempotency keys, entity tags, cursors, server-sent events, and the middleware that gives each
// request an id, a span, metrics and a log line.
//
// A handler returns an error; Write turns it into an answer by one table:
//
//	error                    status
//	*Problem                 its own
//	body over the limit      413
//	fault.Permanent          422
//	fault.Unavailable        503 with Retry-After
//	anything else            500, whose detail tells nothing of the inside
//
// It promises that no input, however broken, becomes a 5xx by its shape: what reaches a handler is well-formed JSON
// without duplicate names, NUL characters or invalid UTF-8, of bounded size and depth, and matches the OpenAPI
// document; its query has no parameter that the document has not. It promises that an answer under an idempotency key
// is given again and its effect not done again, until the key expires. It does not authenticate: Caller is what the
// router's Identify says.
package httpapi
