// Package bench measures a whole Orderflow from outside: orders go in by POST /v1/orders, and have ended when
// order.confirmed or order.cancelled reaches a consumer of the benchmark's own.
//
// A load is closed, open or accepting. The closed one keeps a number of orders in flight: each that ends makes room for the next. It
// tells what the system can do. The open one places orders at instants fixed beforehand, whatever becomes of those
// before them. It tells what a customer waits: latency counts from the instant at which the order was due, so that a
// system that stalls cannot hide the orders that were late because of it (coordinated omission). The accepting one waits for
// the answers only: while it goes on, every service but the one that accepts stands still. When it is over they go on, and it
// waits for the ends of all orders. A closed load of the saga alone has the services that no saga waits for stand still, until
// all that it costs was counted; then they catch up.
//
// Latencies are of the orders that were due in the window that follows the warm-up, each kept and sorted: percentiles are
// exact, by nearest rank. Orders a second are those that ended within the window. What they cost is counted over
// the whole load, from quiet to quiet: it begins and ends when no order is under way and no consumer group is behind,
// and so is the work of these orders, all of it, that of listeners included unless they stand still.
//
// It promises that a figure of a load whose books do not balance afterwards, of which an order did not end, or ended
// otherwise than its payment method says, is not given: the run says what was wrong instead. Refusals and errors are
// counted, and the refused orders are not among the latencies.
//
// Rivals (tools/rivals) are measured in the same run, after Orderflow and on the same servers: an orchestrator that gets the
// same loads from the same driver, a subscriber and an outbox that are held against ours alone.
//
// What it does not do: it runs on the machine that it measures, and takes CPU of it (the component "driver").
package bench
