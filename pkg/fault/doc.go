// Package fault is how an error says what it is: permanent, transient, or that the infrastructure is gone.
//
// The code that knows the cause marks it (the database package marks a lost connection, a handler marks an impossible
// command); the code that must decide reads the mark with KindOf and nothing else. Two tables hang on it:
//
//	kind         a message               a request
//	permanent    dead-letter at once     4xx, the caller must change something
//	transient    retry, then dead-letter 500
//	unavailable  stop, wait, come back   503 with Retry-After
//
// It promises that a mark survives wrapping with %w and that the outermost mark wins. It does not guess: an error
// without a mark is transient.
package fault
