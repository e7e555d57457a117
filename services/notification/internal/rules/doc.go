// Package rules says which transitions of an order a customer hears of, and in which words. It is pure: no clock, no
// database.
//
// A transition has one notification whose id is made of the order and the kind, so that it is the same id whoever
// works it out again, after a redelivery or after a lost database. An event that leads to none (a refund of nothing)
// is not an error.
package rules
