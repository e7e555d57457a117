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
// Every request carries an Idempotency-Key; that of a parcel is also its name in the cancellation's path. What any other answer
// means, and how often it is asked again, is package jsoncall's.
package remote
