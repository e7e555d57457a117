// Package cluster kills brokers of a cluster of three (kill -9) and shows what that loses and doubles: the cells of
// docs/DELIVERY.md that a single broker cannot show. Its tests are built with the tag cluster only, because they need
// Apache Kafka, and something that kills and restarts its brokers:
//
//	KAFKA_BROKERS  three brokers, host:port separated by commas, whose node ids are 1, 2 and 3
//	CONTROL_URL    POST $CONTROL_URL/kill/kafka-N kills node N, POST $CONTROL_URL/restart/kafka-N starts it again
//
//	go test -tags cluster ./tests/cluster
package cluster
