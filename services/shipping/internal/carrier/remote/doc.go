// Package remote is a carrier behind HTTP:
//
//	POST /parcels               {"address": {"name": …, "country": "DE"}, "lines": [{"sku": …, "quantity": 2}]}
//	  201  {"carrier": "…", "tracking_number": "…"}
//	  422  {"code": "region_not_served", "detail": "…"}   refused
//	  409  {"code": "called_off"}                         a cancellation came first
//	POST /parcels/{key}/cancel  {}
//	  200  {"carrier": "…", "tracking_number": "…"}
//	  204                                                 nothing had been arranged; the key is called off
//
// Every request carries an Idempotency-Key and the carrier answers a key the same way each time; that of a parcel is
// also its name in the cancellation's path. The token, if there is one, goes as "Authorization: Bearer".
//
// What an answer means: 408, 409 with any other code, 425, 429, 5xx, no answer within the timeout and one that cannot
// be read are transient, tried again here a bounded number of times and then by whoever called. Any other answer is
// permanent: this service and the carrier do not agree on the contract, and asking again cannot help.
package remote
