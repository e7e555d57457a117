// Package jsoncall posts JSON to somebody else's API, so that a handler may do it again.
//
// Every request carries an Idempotency-Key, which the other side answers the same way each time, a token if there is
// one ("Authorization: Bearer"), and the trace context. A call ends in one of four ways:
//
//   - an answer: 2xx with JSON that can be read, or 204 with none;
//   - a decision against it, a *Refusal: a no that the caller of New says belongs to the contract ({"code", "detail"});
//   - a transient error: 408, 409, 425, 429, 5xx, no answer within the timeout, and one that cannot be read. These are
//     tried again here, a bounded number of times, with backoff and jitter, and then by whoever called;
//   - a permanent error: any other answer. The two sides do not agree on the contract, and asking again cannot help.
//
// It promises that no call lasts longer than its attempts' timeouts and the waits between them, that an answer of any
// size takes bounded memory, that a redirect is not followed (it would take the request, its key and its token to
// somebody else), that an answer is of the request that it is taken for, even when the other side answers twice (each request
// has a connection of its own, which costs a handshake), and that no error holds the token or what the other side said of a person.
//
// It does not promise that a call which failed did nothing: the answer may have been lost. Ask again under the same key,
// or call the deed off. It does not spare a side that is down: there is no circuit breaker, and each call tries anew.
package jsoncall
