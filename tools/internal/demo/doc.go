// Package demo shows a whole Orderflow at work: it starts the stack and the six services, takes orders through every
// branch of the saga, loads it, breaks it, and holds what happened against what should have.
//
// It promises that every deviation is in the report's Failures, that nothing is left running when Run returns, and
// that a run is bounded in time. A run's random choices come from its seed; what runs at once may still end in another
// order.
package demo
