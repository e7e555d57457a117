package kafka

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/IBM/sarama"
)

// Config is how to reach a cluster.
type Config struct {
	// Brokers are the addresses to start from, host:port each.
	Brokers []string
	// ClientID names this process in the cluster's logs and quotas; empty means "orderflow".
	ClientID string
	// Dial, if set, opens the connections to the brokers: through a proxy, or with faults in a test. Nil means TCP.
	Dial func(network, address string) (net.Conn, error)
}

// dialer is sarama's interface for Config.Dial.
type dialer func(network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// Validate names everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("no brokers, must be one host:port or more"))
	}
	for _, broker := range c.Brokers {
		if _, port, err := net.SplitHostPort(broker); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("broker %q must be host:port", broker))
		}
	}
	return errors.Join(errs...)
}

// Sarama returns the client settings that every user of the cluster starts from.
func (c Config) Sarama() *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = c.ClientID
	if s.ClientID == "" {
		s.ClientID = "orderflow"
	}
	s.Version = sarama.V3_6_0_0
	s.Net.DialTimeout = 3 * time.Second
	s.Net.ReadTimeout = 10 * time.Second
	// For so long a group waits for a member that does not join again. Whoever joins must be able to wait for longer than
	// that: one that gives up before, and joins anew, makes the group wait from the beginning, for ever.
	s.Consumer.Group.Rebalance.Timeout = 5 * time.Second
	s.Net.WriteTimeout = 10 * time.Second
	if c.Dial != nil {
		s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, dialer(c.Dial)
	}

	// A misspelt topic must be an error, not a new topic with the cluster's default number of partitions.
	s.Metadata.AllowAutoTopicCreation = false
	// A broker that is killed takes a while to be replaced as leader. Looking for the new leader does not use the
	// producer's retries, so these must outlast it; Timeout bounds them all together.
	s.Metadata.Retry.Max = 30
	s.Metadata.Timeout = 5 * time.Second

	// Sent means on all in-sync replicas, once, in order. One open request is what keeps order across a retry.
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Idempotent = true
	s.Net.MaxOpenRequests = 1
	s.Producer.Retry.Max = 10
	s.Producer.Retry.Backoff = 100 * time.Millisecond
	s.Producer.Return.Successes = true
	s.Producer.Return.Errors = true
	// sarama's own default places keys where no other client does; Java, librdkafka and franz-go agree on this one.
	s.Producer.Partitioner = sarama.NewMurmur2Partitioner

	// Records of a transaction are seen when it commits, and never if it does not. Topics without transactions are read
	// as ever. It also makes a member that takes a partition over wait for a transaction that is just committing its
	// offset there. A committed transaction leaves a marker in the log, so offsets have gaps.
	s.Consumer.IsolationLevel = sarama.ReadCommitted
	// A group that is new starts with what was there before it.
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	return s
}

// maxName is the length of Kafka's longest topic name.
const maxName = 249

// ValidName tells whether Kafka would take a name for a topic.
func ValidName(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > maxName {
		return false
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return false
		}
	}
	return true
}
