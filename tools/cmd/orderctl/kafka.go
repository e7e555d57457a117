package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/tools/internal/native"
)

// kafkaTools are Kafka's tools by the name of their scripts: kafka-topics and so on.
func kafkaTools() map[string]string {
	return map[string]string{
		"topics":              "org.apache.kafka.tools.TopicCommand",
		"configs":             "kafka.admin.ConfigCommand",
		"consumer-groups":     "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
		"groups":              "org.apache.kafka.tools.GroupsCommand",
		"console-consumer":    "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"get-offsets":         "org.apache.kafka.tools.GetOffsetShell",
		"leader-election":     "org.apache.kafka.tools.LeaderElectionCommand",
		"reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
		"transactions":        "org.apache.kafka.tools.TransactionsCommand",
		"producer-perf-test":  "org.apache.kafka.tools.ProducerPerformance",
		"broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
	}
}

// kafkaCmd stands in for Kafka's scripts, which do not come with its jars.
type kafkaCmd struct {
	NativeDir string   `help:"Folder of the native stack, with Kafka's jars." default:".data/native" type:"path" env:"NATIVE_DIR"`
	Brokers   string   `help:"Kafka brokers, host:port separated by commas." env:"KAFKA_BROKERS" default:"127.0.0.1:19092"`
	Tool      string   `arg:"" help:"The tool, as its script is called without 'kafka-': topics, consumer-groups, console-consumer …"`
	Args      []string `arg:"" optional:"" passthrough:"" help:"Its arguments; --bootstrap-server is added."`
}

// Run returns what the tool ended with.
func (k kafkaCmd) Run(ctx context.Context) error {
	tools := kafkaTools()
	class, ok := tools[strings.TrimPrefix(k.Tool, "kafka-")]
	if !ok {
		return fmt.Errorf("%q is none of Kafka's tools here, must be one of %s", k.Tool, strings.Join(slices.Sorted(maps.Keys(tools)), ", "))
	}
	libs := filepath.Join(k.NativeDir, "libs")
	if _, err := os.Stat(libs); err != nil {
		return fmt.Errorf("Kafka's tools need its jars: run `make native-deps` (%w)", err) //nolint:staticcheck // a name
	}
	args := append([]string{"-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", class, "--bootstrap-server", k.Brokers}, k.Args...)
	command, err := native.Java(libs, args...)
	if err != nil {
		return err
	}
	return execute(ctx, command, nil)
}
