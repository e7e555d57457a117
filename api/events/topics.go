package events

import (
	"bytes"
	"fmt"
	"maps"
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
	Name            string        `yaml:"name"`
	Kind            Kind          `yaml:"kind"`
	Owner           string        `yaml:"owner"`
	Key             string        `yaml:"key"`
	Schemas         []string      `yaml:"schemas"`
	Partitions      int           `yaml:"partitions"`
	Retention       time.Duration `yaml:"retention"`
	CleanupPolicy   string        `yaml:"cleanup_policy"`
	MaxMessageBytes int           `yaml:"max_message_bytes"`
	// Environment is what depends on the cluster. It is zero, which means nothing said, until In sets it.
	Environment Environment `yaml:"-"`
}

// Environment is what topics.yaml declares of a kind of cluster.
type Environment struct {
	Replication       int `yaml:"replication"`
	MinInsyncReplicas int `yaml:"min_insync_replicas"`
}

// Environments returns the names that In accepts, sorted.
func Environments() []string { return slices.Sorted(maps.Keys(declared().Environments)) }

// In returns the topic as it is to be in an environment, one of Environments.
func (t Topic) In(environment string) (Topic, error) {
	e, ok := declared().Environments[environment]
	if !ok {
		return Topic{}, fmt.Errorf("there is no environment %q, must be one of %s", environment, strings.Join(Environments(), ", "))
	}
	t.Environment = e
	return t, nil
}

// KafkaTopic returns the topic in Kafka's terms: its name, the number of its partitions and of its copies (0: nothing
// said), and its settings under Kafka's names.
func (t Topic) KafkaTopic() (name string, partitions int32, replication int16, configs map[string]string) {
	configs = map[string]string{
		"cleanup.policy":    t.CleanupPolicy,
		"retention.ms":      strconv.FormatInt(t.Retention.Milliseconds(), 10),
		"max.message.bytes": strconv.Itoa(t.MaxMessageBytes),
	}
	if t.Environment.MinInsyncReplicas > 0 {
		configs["min.insync.replicas"] = strconv.Itoa(t.Environment.MinInsyncReplicas)
	}
	return t.Name, int32(t.Partitions), int16(t.Environment.Replication), configs
}

// Topics returns every topic, in the order of topics.yaml.
func Topics() []Topic {
	topics := slices.Clone(declared().Topics)
	for i := range topics {
		topics[i].Schemas = slices.Clone(topics[i].Schemas)
	}
	return topics
}

// TopicsOf returns the topics that a service sends to or receives from, which asyncapi.yaml declares, in the order of
// topics.yaml. It returns none for a name that is no service's.
func TopicsOf(service string) []Topic {
	uses := used()[service]
	return slices.DeleteFunc(Topics(), func(t Topic) bool {
		return !slices.ContainsFunc(uses, func(u use) bool { return u.topic == t.Name })
	})
}

// Received returns those of TopicsOf that a service receives from. A dead-letter topic is received by the owner's index,
// every other by its consumer group.
func Received(service string) []Topic {
	uses := used()[service]
	return slices.DeleteFunc(Topics(), func(t Topic) bool { return !slices.Contains(uses, use{receives: true, topic: t.Name}) })
}

// DeadLetterTopic is where a consumer group puts what it gave up on.
func DeadLetterTopic(group string) string { return group + ".dlq" }

// RedriveTopic is where a consumer group gets its dead letters back.
func RedriveTopic(group string) string { return group + ".redrive" }

// The contracts are part of the binary, so a mistake in one is a broken build: panic.
var (
	declared = sync.OnceValue(func() topicsFile { return must(parseTopics(api.Topics)) })
	used     = sync.OnceValue(func() map[string][]use { return must(parseUses(api.AsyncAPI)) })
)

func must[T any](parsed T, err error) T {
	if err != nil {
		panic(err)
	}
	return parsed
}

// topicsFile is topics.yaml with the defaults filled in.
type topicsFile struct {
	Environments map[string]Environment
	Topics       []Topic
}

func parseTopics(data []byte) (topicsFile, error) {
	var file struct {
		Defaults     map[Kind]Topic         `yaml:"defaults"`
		Environments map[string]Environment `yaml:"environments"`
		Topics       []yaml.Node            `yaml:"topics"`
	}
	if err := decodeStrict(data, &file); err != nil {
		return topicsFile{}, fmt.Errorf("topics.yaml: %w", err)
	}
	parsed := topicsFile{Environments: file.Environments, Topics: make([]Topic, 0, len(file.Topics))}
	for name, e := range file.Environments {
		if e.Replication < 1 || e.MinInsyncReplicas < 1 || e.MinInsyncReplicas > e.Replication {
			return topicsFile{}, fmt.Errorf("topics.yaml, environment %s: replication %d and min_insync_replicas %d must be 1 or more, the second no more than the first",
				name, e.Replication, e.MinInsyncReplicas)
		}
	}
	for _, node := range file.Topics {
		var named Topic
		if err := node.Decode(&named); err != nil {
			return topicsFile{}, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		t, ok := file.Defaults[named.Kind]
		if !ok {
			return topicsFile{}, fmt.Errorf("topics.yaml, line %d: kind %q has no defaults", node.Line, named.Kind)
		}
		// A node is encoded again because only a decoder refuses misspelt fields.
		one, err := yaml.Marshal(&node)
		if err != nil {
			return topicsFile{}, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		if err := decodeStrict(one, &t); err != nil {
			return topicsFile{}, fmt.Errorf("topics.yaml, line %d: %w", node.Line, err)
		}
		parsed.Topics = append(parsed.Topics, t)
	}
	return parsed, nil
}

// use is that a service sends to a topic or receives from it.
type use struct {
	receives bool
	topic    string
}

// parseUses reads from asyncapi.yaml which topics each service sends to or receives from. An operation's name says it:
// <service>.<send|receive>.<topic>.
func parseUses(data []byte) (map[string][]use, error) {
	var file struct {
		Operations map[string]yaml.Node `yaml:"operations"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	uses := map[string][]use{}
	for operation := range file.Operations {
		parts := strings.SplitN(operation, ".", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("asyncapi.yaml: operation %q must be named <service>.<send|receive>.<topic>", operation)
		}
		uses[parts[0]] = append(uses[parts[0]], use{receives: parts[1] == "receive", topic: parts[2]})
	}
	return uses, nil
}

func decodeStrict(data []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	return d.Decode(into)
}
