// Package books says whether a whole system's books balance, from what its services say over REST.
//
// Stock that came in is available, reserved or shipped, and what is shipped is what confirmed orders hold. Money that
// was charged and not refunded is the total of the confirmed orders, also in the provider's ledger. Every order has
// ended, every customer was told of every transition once, the figures agree, and no dead letter lies unaccounted for.
//
// It promises to name what is off. It reads one service after the other, so the books balance only while nothing is
// under way: Settle waits for that.
package books
