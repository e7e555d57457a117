// Package client speaks to a whole running system from outside: the REST surfaces of its six services, nothing else.
//
// It promises that an answer other than the expected one is an error that says what was asked and what the service
// said (Refused), that lists are read to their end, and that nothing outlives its context. It does not retry: who
// waits for something says so (Eventually).
package client
