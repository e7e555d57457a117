// Package webhook delivers notifications to one HTTP receiver.
//
// Every notification is a POST of its JSON with the header Idempotency-Key (and webhook-id), the notification's id, which
// is the same in every attempt: a receiver that drops ids it has seen gets each notification once. An answer 2xx is
// delivered; 408, 425, 429, 5xx and no answer are tried again with backoff; anything else, and the last attempt, make
// a dead letter, whose redrive puts it back on the queue with fresh attempts.
//
// What was delivered is written down, so an entry that comes again from the queue is not posted again. It promises that
// a notification is delivered, or a dead letter, or still waiting, and that the table says which. It does not keep the
// order of a customer's notifications: each has its position, and a slow receiver must not hold up the others.
package webhook
