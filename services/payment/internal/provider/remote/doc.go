// Package remote is a payment provider behind HTTP:
//
//	POST /charges               {"amount": 2500, "currency": "EUR", "payment_method": "tok_…"}
//	  201  {"reference": "ch_…"}
//	  402  {"code": "card_declined", "detail": "…"}    declined
//	  409  {"code": "called_off"}                      a refund came first
//	POST /charges/{key}/refund  {}
//	  200  {"amount": 2500, "currency": "EUR", "reference": "re_…"}
//	  204                                              nothing had been charged; the key is called off
//
// Every request carries an Idempotency-Key and the provider answers a key the same way each time; that of a charge is
// also its name in the refund's path. The token, if there is one, goes as "Authorization: Bearer".
//
// What an answer means: 408, 409 with any other code, 425, 429, 5xx, no answer within the timeout and one that cannot
// be read are transient, tried again here a bounded number of times and then by whoever called. Any other answer is
// permanent: this service and the provider do not agree on the contract, and asking again cannot help.
package remote
