// Package testkit runs a service as its users meet it, inside a test: a real broker and Redis on loopback (package
// devstack), a database file, the service's own Run, and then HTTP requests and Kafka records. It is imported by tests
// only.
//
// Everything belongs to one test: its own broker, ports and folder, so tests run in parallel. What is awaited has a
// bound; nothing sleeps.
package testkit
