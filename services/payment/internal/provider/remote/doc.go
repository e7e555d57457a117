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
// Every request carries an Idempotency-Key; that of a charge is also its name in the refund's path. What any other answer
// means, and how often it is asked again, is package jsoncall's.
package remote
