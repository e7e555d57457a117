// Package e2e is the black-box suite: whole orders through a running system, told by environment variables only where
// it is, so that the same tests run on any stack. It knows HTTP, Kafka and Redis.
//
//	make build && bin/orderctl run -- go test ./tests/e2e/...
//
// runs it on a stack of its own (make test-e2e does). A system of your own is named by ORDER_URL, INVENTORY_URL, PAYMENT_URL, SHIPPING_URL,
// NOTIFICATION_URL, ANALYTICS_URL, KAFKA_BROKERS and REDIS_URL; it must use the sandbox provider and carrier, and it
// will have some hundred orders more. SEED repeats a run's random choices.
//
// Tests run in parallel, each with customers of its own, and put away the dead letters that they make. When all have
// passed, the books of the whole system must balance.
package e2e
