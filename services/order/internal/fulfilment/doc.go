// Package fulfilment carries an order through its saga: stock, payment, shipping. What follows from what is decided by
// pkg/saga's pure function over Plan; this package turns participants' events into its inputs and its commands into
// messages, all in the caller's transaction.
package fulfilment
