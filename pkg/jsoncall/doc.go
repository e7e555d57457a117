// Package jsoncall posts JSON to somebody else's API, so that a handler may do it again.
//
// Every request carries an Idempotency-Key, which the other side answers the same way each time, a token if there is
// one ("Authorization: Bearer"), and the trace context. A call ends in one of five ways:
//
//   - an answer: 2xx with JSON that can be read, or 204 with none;
//   - a decision against it, a *Refusal: a no that the caller of New says belongs to the contract ({"code", "detail"});
//   - a transient error: 408, 409, 425, 429, 5xx, no answer within the timeout, and one that cannot be read. These are
//     tried again here, a bounded number of times, with backoff and jitter, and then by whoever called;
//   - a permanent error: any other answer. The two sides do not agree on the contract, and asking again cannot help;
//   - unavailable: there was no connection, or the circuit breaker is open. It says nothing of what was asked.
//
// The breaker opens when calls under Config.BreakerFailures different keys have failed in a row, after the attempts of each
// and with no answer to anybody in between. An answer is a 2xx that can be read, a decision, and any other no of the contract's
// kind (409 and what is permanent): the other side is there. A failure is all else: 408, 425, 429, 5xx, a timeout, no
// connection. While the breaker is open calls fail at once, but for one in each BreakerCooldown, the probe. The first answer
// closes it. Failures meanwhile, and the one that opens it, are unavailable, so that what was asked is not blamed for them.
//
// Keys are counted and not calls, because one request that the other side cannot digest fails each time it is asked, and must
// not keep away the others: however often it is tried, it counts once. The price is that a side that fails everybody is known
// for it only when so many have asked; until then their failures are transient. With BreakerFailures 1 the first failure
// opens it, anybody's.
//
// It promises that no call lasts longer than its attempts' timeouts and the waits between them, that an answer of any
// size takes bounded memory, that a redirect is not followed (it would take the request, its key and its token to
// somebody else), that an answer is of the request that it is taken for, even when the other side answers twice (each request
// has a connection of its own, which costs a handshake), that no error holds the token or what the other side said of a
// person, and that a side that answers nobody is asked by one call in each cool-down, until it answers.
//
// It does not promise that a call which failed did nothing: the answer may have been lost. Ask again under the same key,
// or call the deed off. A breaker is its process's own: replicas find out for themselves.
package jsoncall
