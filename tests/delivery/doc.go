// Package delivery shows what each delivery guarantee loses and doubles under which fault: the cells of
// docs/DELIVERY.md, one test each. It needs a Kafka, of which KAFKA_BROKERS tells, and nothing else:
//
//	bin/orderctl run -- go test ./tests/delivery
//
// A process that is killed is this test binary, started once more with a role and a point in it at which it kills
// itself (kill -9). An answer that is lost was read from the broker and thrown away, and the connection was cut. So every
// fault happens at one known point, and every outcome is exact.
package delivery
