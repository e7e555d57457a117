package native

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/tools/internal/loopback"
	"github.com/orderflow/orderflow/tools/internal/process"
)

// javaExit is what a JVM ends with after SIGTERM.
const javaExit = "exit status 143"

// jvm are the settings of Kafka's JVM.
func (o Options) jvm() []string {
	if own := os.Getenv("KAFKA_JVM_OPTS"); own != "" {
		return strings.Fields(own)
	}
	if o.JVM != nil {
		return slices.Clone(o.JVM)
	}
	return []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx256m"}
}

func javaPath() (string, error) { return exec.LookPath("java") }

// Java returns the program and arguments that run a class of Kafka's jars.
func Java(libs string, args ...string) ([]string, error) {
	java, err := javaPath()
	if err != nil {
		return nil, err
	}
	return append([]string{java, "-cp", filepath.Join(libs, "*")}, args...), nil
}

// prepareKafka writes each node's settings, formats its folder when it is new, and registers it.
func (s *Servers) prepareKafka(ctx context.Context, free ports) error {
	var voters []string
	for i, port := range free.controllers {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, loopback.Address(port)))
	}
	for i, port := range free.kafka {
		advertised := loopback.Address(port)
		if s.opts.Advertise != nil {
			var err error
			if advertised, err = s.opts.Advertise(brokerName(i), advertised); err != nil {
				return fmt.Errorf("advertise %s: %w", brokerName(i), err)
			}
		}
		s.brokers = append(s.brokers, advertised)
	}
	if err := s.sameBrokers(); err != nil {
		return err
	}
	id, err := s.clusterID()
	if err != nil {
		return err
	}
	for i := range s.opts.Brokers {
		name := brokerName(i)
		dir := filepath.Join(s.opts.Dir, name)
		properties := filepath.Join(dir, "server.properties")
		settings := nodeSettings(i+1, s.opts.Brokers, dir, loopback.Address(free.kafka[i]), s.brokers[i], loopback.Address(free.controllers[i]), strings.Join(voters, ","))
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(properties, []byte(settings), 0o600); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); errors.Is(err, os.ErrNotExist) {
			if err := s.format(ctx, id, properties); err != nil {
				return err
			}
		}
		args := append(s.opts.jvm(),
			"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
			"-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn", "kafka.Kafka", properties)
		command, err := Java(s.opts.Libs, args...)
		if err != nil {
			return err
		}
		s.add(process.Config{
			Name: name, Path: command[0], Args: command[1:], Env: os.Environ(), StopState: javaExit,
		}, s.clusterServes(s.brokers[i]))
	}
	return nil
}

func brokerName(i int) string { return fmt.Sprintf("kafka-%d", i+1) }

// nodeSettings are a node's properties: broker and controller at once. Nothing is created on demand, and a node that was
// killed is let back in after two seconds instead of nine.
func nodeSettings(node, nodes int, dir, address, advertised, controller, voters string) string {
	inSync := nodes/2 + 1
	lines := []string{
		"process.roles=broker,controller",
		"node.id=" + strconv.Itoa(node),
		"listeners=PLAINTEXT://" + address + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + advertised,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=PLAINTEXT",
		"controller.listener.names=CONTROLLER",
		"controller.quorum.voters=" + voters,
		"log.dirs=" + filepath.Join(dir, "data"),
		"auto.create.topics.enable=false",
		"unclean.leader.election.enable=false",
		"broker.session.timeout.ms=2000",
		"broker.heartbeat.interval.ms=500",
		"group.initial.rebalance.delay.ms=0",
		"offsets.topic.num.partitions=6",
		"transaction.state.log.num.partitions=6",
		// Its default, 128 MiB in one piece, is half of the small heap: a broker that had much to recover died of it.
		"log.cleaner.dedupe.buffer.size=16777216",
		"share.coordinator.state.topic.num.partitions=1",
		fmt.Sprintf("default.replication.factor=%d", nodes),
		fmt.Sprintf("min.insync.replicas=%d", inSync),
		fmt.Sprintf("offsets.topic.replication.factor=%d", nodes),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", nodes),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", nodes),
		fmt.Sprintf("share.coordinator.state.topic.min.isr=%d", inSync),
	}
	return strings.Join(lines, "\n") + "\n"
}

// sameBrokers refuses a folder that was made for another number of nodes: its topics' copies lie on those.
func (s *Servers) sameBrokers() error {
	there, err := filepath.Glob(filepath.Join(s.opts.Dir, "kafka-*", "data"))
	if err != nil || len(there) == 0 || len(there) == s.opts.Brokers {
		return err
	}
	return fmt.Errorf("%s holds a Kafka of %d brokers, not %d: ask for that many, or remove it with `make native-reset`",
		s.opts.Dir, len(there), s.opts.Brokers)
}

// clusterID is drawn once a folder: nodes that were formatted in different starts must agree.
func (s *Servers) clusterID() (string, error) {
	path := filepath.Join(s.opts.Dir, "cluster-id")
	id, err := os.ReadFile(filepath.Clean(path))
	if err == nil {
		return string(id), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	random[0] &= 0x7f           // or it could begin with a dash, and be taken for an option
	text := base64.RawURLEncoding.EncodeToString(random[:])
	return text, os.WriteFile(path, []byte(text), 0o600)
}

func (s *Servers) format(ctx context.Context, id, properties string) error {
	command, err := Java(s.opts.Libs, "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"kafka.tools.StorageTool", "format", "-t", id, "-c", properties)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("format Kafka's folder: %w\n%s", err, out)
	}
	return nil
}

// clusterServes asks one broker: it serves when it knows a controller and as many brokers as are up. A node's port opens
// when it serves, but the others hear of it a little later.
func (s *Servers) clusterServes(broker string) func(ctx context.Context) error {
	return func(context.Context) error {
		cfg := sarama.NewConfig()
		cfg.Metadata.Retry.Max = 0
		cfg.Net.DialTimeout, cfg.Net.ReadTimeout = time.Second, 2*time.Second
		client, err := sarama.NewClient([]string{broker}, cfg)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }() // only asked
		if _, err := client.Controller(); err != nil {
			return err
		}
		for _, b := range client.Brokers() {
			if b.Addr() == broker {
				return nil
			}
		}
		return fmt.Errorf("%s is not known to the cluster yet", broker)
	}
}
