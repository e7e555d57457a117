package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// topicTick is how often the cluster is asked whether it has done what it was told.
const topicTick = 50 * time.Millisecond

// Topic is a topic as it should be.
type Topic struct {
	Name       string
	Partitions int32
	// Replication is the number of copies; 0 means the cluster's default for a new topic, and any for one that exists.
	Replication int16
	// Configs are Kafka's topic settings, by name ("retention.ms").
	Configs map[string]string
}

// Declaration is a topic as a contract declares it. It uses types that everybody has, so that contracts need not import
// this package.
type Declaration interface {
	// KafkaTopic returns the fields of Topic.
	KafkaTopic() (name string, partitions int32, replication int16, configs map[string]string)
}

// Topics returns what a contract declares as this package's type.
func Topics[D Declaration](declared []D) []Topic {
	topics := make([]Topic, len(declared))
	for i, d := range declared {
		topics[i].Name, topics[i].Partitions, topics[i].Replication, topics[i].Configs = d.KafkaTopic()
	}
	return topics
}

// Cluster is what a cluster has.
type Cluster struct {
	Brokers []Broker
	// Topics are those that were asked about and exist, by name.
	Topics map[string]TopicState
}

// Broker is a broker that is up.
type Broker struct {
	ID   int32
	Rack string
}

// TopicState is a topic as a cluster has it.
type TopicState struct {
	// Replicas are the brokers with a copy, by partition; the first of each is its preferred leader.
	Replicas [][]int32
	// Leaderless tells that a partition has no leader now: brokers are away, or the topic is only just there.
	Leaderless bool
	// Configs are the settings in force, Overrides those of them that were set on the topic itself.
	Configs, Overrides map[string]string
}

// Describe returns the cluster's brokers and those of the named topics that exist.
func (a *Admin) Describe(ctx context.Context, names ...string) (Cluster, error) {
	return answer(ctx, a, "describe topics", func(_ sarama.Client, admin sarama.ClusterAdmin) (Cluster, error) {
		cluster := Cluster{Topics: map[string]TopicState{}}
		brokers, _, err := admin.DescribeCluster()
		if err != nil {
			return cluster, err
		}
		for _, b := range brokers {
			cluster.Brokers = append(cluster.Brokers, Broker{ID: b.ID(), Rack: b.Rack()})
		}
		if len(names) == 0 { // sarama would ask about all
			return cluster, nil
		}
		found, err := admin.DescribeTopics(names)
		if err != nil {
			return cluster, err
		}
		var resources []*sarama.ConfigResource
		for _, t := range found {
			state, there, err := stateOf(t)
			if err != nil {
				return cluster, fmt.Errorf("topic %s: %w", t.Name, err)
			}
			if there {
				cluster.Topics[t.Name] = state
				resources = append(resources, &sarama.ConfigResource{Type: sarama.TopicResource, Name: t.Name})
			}
		}
		results, err := admin.DescribeConfigs(resources, sarama.DescribeConfigsOptions{})
		if err != nil {
			return cluster, err
		}
		for _, r := range results {
			switch state := cluster.Topics[r.Name]; {
			case errors.Is(r.ErrorCode, sarama.ErrUnknownTopicOrPartition):
				delete(cluster.Topics, r.Name) // gone since, or this broker has not heard of it yet
			case !errors.Is(r.ErrorCode, sarama.ErrNoError):
				return cluster, fmt.Errorf("settings of topic %s: %w", r.Name, r.ErrorCode)
			default:
				for _, c := range r.Configs {
					state.Configs[c.Name] = c.Value
					if c.Source == sarama.SourceTopic {
						state.Overrides[c.Name] = c.Value
					}
				}
			}
		}
		return cluster, nil
	})
}

// stateOf reads what the cluster says of a topic; there is false when it says that it has none of that name.
func stateOf(t *sarama.TopicMetadata) (state TopicState, there bool, err error) {
	state = TopicState{Configs: map[string]string{}, Overrides: map[string]string{}, Replicas: make([][]int32, len(t.Partitions))}
	switch {
	case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
		return state, false, nil
	case errors.Is(t.Err, sarama.ErrLeaderNotAvailable):
		state.Leaderless = true
	case !errors.Is(t.Err, sarama.ErrNoError):
		return state, false, t.Err
	}
	for _, p := range t.Partitions {
		if p.ID < 0 || int(p.ID) >= len(t.Partitions) {
			return state, false, fmt.Errorf("%d partitions, one of them numbered %d", len(t.Partitions), p.ID)
		}
		state.Replicas[p.ID] = p.Replicas
		state.Leaderless = state.Leaderless || p.Leader < 0
	}
	return state, true, nil
}

// TopicNames returns the names of all topics, sorted, without those of Kafka itself.
func (a *Admin) TopicNames(ctx context.Context) ([]string, error) {
	return answer(ctx, a, "list topics", func(_ sarama.Client, admin sarama.ClusterAdmin) (names []string, err error) {
		topics, err := admin.DescribeTopics(nil)
		for _, t := range topics {
			if !t.IsInternal {
				names = append(names, t.Name)
			}
		}
		slices.Sort(names)
		return names, err
	})
}

// EnsureTopics creates the topics that are missing and waits until all are there, with leaders. One that exists is left
// as it is, whatever its settings: see Plan and Apply for those.
func (a *Admin) EnsureTopics(ctx context.Context, topics []Topic) error {
	ticker := time.NewTicker(topicTick)
	defer ticker.Stop()
	for first := true; ; first = false {
		cluster, err := a.Describe(ctx, namesOf(topics)...)
		if err != nil {
			return err
		}
		var waiting []string
		for _, t := range topics {
			state, there := cluster.Topics[t.Name]
			if there && !state.Leaderless {
				continue
			}
			waiting = append(waiting, t.Name)
			if !there && first {
				if err := a.create(ctx, t, false); err != nil {
					return err
				}
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fault.Unavailablef("create topics: %q are not there yet: %w", waiting, ctx.Err())
		}
	}
}

// create makes a topic, or with dry only asks the cluster whether it would.
func (a *Admin) create(ctx context.Context, t Topic, dry bool) error {
	return a.do(ctx, "create topic "+t.Name, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		detail := &sarama.TopicDetail{NumPartitions: t.Partitions, ReplicationFactor: t.Replication, ConfigEntries: map[string]*string{}}
		if t.Replication == 0 {
			detail.ReplicationFactor = -1
		}
		for name, value := range t.Configs {
			detail.ConfigEntries[name] = &value
		}
		// Another process may have been first.
		if err := admin.CreateTopic(t.Name, detail, dry); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return err
		}
		return nil
	})
}

func namesOf(topics []Topic) []string {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	return names
}
