package events

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/api"
)

// Kind says what a topic is for.
type Kind string

// Kinds of topics.
const (
	KindEvent      Kind = "event"
	KindCommand    Kind = "command"
	KindDeadLetter Kind = "dead-letter"
	KindRedrive    Kind = "redrive"
)

// Topic is what topics.yaml declares of a topic; the file explains each field.
type Topic struct {
	Name              string        `yaml:"name"`
	Kind              Kind          `yaml:"kind"`
	Owner             string        `yaml:"owner"`
	Key               string        `yaml:"key"`
	Schemas           []string      `yaml:"schemas"`
	Partitions        int           `yaml:"partitions"`
	Replication       int           `yaml:"replication"`
	MinInsyncReplicas int           `yaml:"min_insync_replicas"`
	Retention         time.Duration `yaml:"retention"`
	CleanupPolicy     string        `yaml:"cleanup_policy"`
	MaxMessageBytes   int           `yaml:"max_message_bytes"`
}

// On returns the topic as a cluster of so many brokers can hold it: with as many copies as declared, but no more than
// there are brokers, and on a smaller cluster the majority of them in sync.
func (t Topic) On(brokers int) Topic {
	if brokers < t.Replication {
		t.Replication = max(brokers, 1)
		t.MinInsyncReplicas = min(t.MinInsyncReplicas, t.Replication/2+1)
	}
	return t
}

// Configs returns the topic's settings under Kafka's names.
func (t Topic) Configs() map[string]string {
	return map[string]string{
		"cleanup.policy":      t.CleanupPolicy,
		"retention.ms":        strconv.FormatInt(t.Retention.Milliseconds(), 10),
		"min.insync.replicas": strconv.Itoa(t.MinInsyncReplicas),
		"max.message.bytes":   strconv.Itoa(t.MaxMessageBytes),
	}
}

// Topics returns every topic, in the order of topics.yaml.
func Topics() []Topic {
	topics := slices.Clone(declared())
	for i := range topics {
		topics[i].Schemas = slices.Clone(topics[i].Schemas)
	}
	return topics
}

// DeadLetterTopic is where a consumer group puts what it gave up on.
func DeadLetterTopic(group string) string { return group + ".dlq" }

// RedriveTopic is where a consumer group gets its dead letters back.
func RedriveTopic(group string) string { return group + ".redrive" }

// declared is topics.yaml. It is part of the binary, so a mistake in it is a broken build: panic.
var declared = sync.OnceValue(func() []Topic {
	topics, err := parseTopics(api.Topics)
	if err != nil {
		panic(err)
	}
	return topics
})

// Received returns the topics that a service receives, as asyncapi.yaml says, in the order of topics.yaml. A dead-letter
// topic is received by the owner's index, every other by its consumer group.
func Received(service string) []Topic {
	var topics []Topic
	for _, t := range Topics() {
		if received()[t.Name][service] {
			topics = append(topics, t)
		}
	}
	return topics
}

// received is who receives each topic. A mistake is a broken build, as above.
var received = sync.OnceValue(func() map[string]map[string]bool {
	var doc struct {
		Operations map[string]struct {
			Action  string `yaml:"action"`
			Channel struct {
				Ref string `yaml:"$ref"`
			} `yaml:"channel"`
			Tags []struct {
				Name string `yaml:"name"`
			} `yaml:"tags"`
		} `yaml:"operations"`
	}
	if err := yaml.Unmarshal(api.AsyncAPI, &doc); err != nil {
		panic(fmt.Errorf("asyncapi.yaml: %w", err))
	}
	by := map[string]map[string]bool{}
	for _, o := range doc.Operations {
		topic := strings.TrimPrefix(o.Channel.Ref, "#/channels/")
		if o.Action != "receive" {
			continue
		}
		if by[topic] == nil {
			by[topic] = map[string]bool{}
		}
		for _, tag := range o.Tags {
			by[topic][tag.Name] = true
		}
	}
	return by
})

func parseTopics(data []byte) ([]Topic, error) {
	var file struct {
		Defaults map[Kind]Topic `yaml:"defaults"`
		Topics   []yaml.Node    `yaml:"topics"`
	}
	if err := decodeStrict(data, &file); err != nil {
		return nil, fmt.Errorf("topics.yaml: %w", err)
	}
	topics := make([]Topic, 0, len(file.Topics))
	for _, node := range file.Topics {
		var named Topic
		if err := node.Decode(&named); err != nil {
			return nil, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		t, ok := file.Defaults[named.Kind]
		if !ok {
			return nil, fmt.Errorf("topics.yaml, line %d: kind %q has no defaults", node.Line, named.Kind)
		}
		// A node is encoded again because only a decoder refuses misspelt fields.
		one, err := yaml.Marshal(&node)
		if err != nil {
			return nil, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		if err := decodeStrict(one, &t); err != nil {
			return nil, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		topics = append(topics, t)
	}
	return topics, nil
}

func decodeStrict(data []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	return d.Decode(into)
}
