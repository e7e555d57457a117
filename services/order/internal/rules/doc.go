// Package rules is what an order is and what may become of it. It knows no database, broker or clock.
package rules
