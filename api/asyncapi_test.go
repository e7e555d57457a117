package api_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/orderflow/orderflow/api/events"
)

type ref struct {
	Ref string `yaml:"$ref"`
}

// asyncDoc is as much of AsyncAPI 3 as asyncapi.yaml uses.
type asyncDoc struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address  string         `yaml:"address"`
		Messages map[string]ref `yaml:"messages"`
		Bindings struct {
			Kafka struct {
				Partitions int `yaml:"partitions"`
				Replicas   int `yaml:"replicas"`
				Topic      struct {
					Cleanup   []string `yaml:"cleanup.policy"`
					Retention int64    `yaml:"retention.ms"`
					MaxBytes  int      `yaml:"max.message.bytes"`
				} `yaml:"topicConfiguration"`
			} `yaml:"kafka"`
		} `yaml:"bindings"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Action   string                  `yaml:"action"`
		Tags     []struct{ Name string } `yaml:"tags"`
		Channel  ref                     `yaml:"channel"`
		Messages []ref                   `yaml:"messages"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]asyncMessage `yaml:"messages"`
	} `yaml:"components"`
}

type asyncMessage struct {
	Name    string    `yaml:"name"`
	Traits  []ref     `yaml:"traits"`
	Headers yaml.Node `yaml:"headers"`
	Payload yaml.Node `yaml:"payload"`
}

func readAsync(t *testing.T) asyncDoc {
	t.Helper()
	data, err := os.ReadFile("asyncapi.yaml")
	require.NoError(t, err)
	var doc asyncDoc
	require.NoError(t, yaml.Unmarshal(data, &doc))
	require.Equal(t, "3.0.0", doc.AsyncAPI)
	return doc
}

var services = []string{"order", "inventory", "payment", "shipping", "notification", "analytics"}

// carried returns the messages that asyncapi.yaml shall have on a topic.
func carried(topic events.Topic) []string {
	switch topic.Kind {
	case events.KindDeadLetter:
		return []string{"dead-letter"}
	case events.KindRedrive:
		return []string{"redriven"}
	default:
		return topic.Schemas
	}
}

func TestTopicsAreWhatTheRegistryNeeds(t *testing.T) {
	t.Parallel()
	carries := map[string]string{}
	names := map[string]bool{}
	for _, topic := range events.Topics() {
		require.False(t, names[topic.Name], "%s is declared twice", topic.Name)
		names[topic.Name] = true
		require.Contains(t, services, topic.Owner, topic.Name)
		require.Equal(t, "order_id", topic.Key, topic.Name)
		require.Positive(t, topic.Partitions, topic.Name)
		require.Positive(t, topic.MaxMessageBytes, topic.Name)
		require.Positive(t, topic.Retention, topic.Name)
		require.Contains(t, []string{"delete", "compact"}, topic.CleanupPolicy, topic.Name)
		for _, typ := range topic.Schemas {
			require.NotContains(t, carries, typ, "%s is on two topics", typ)
			carries[typ] = topic.Name
		}
		switch topic.Kind {
		case events.KindEvent:
			require.Equal(t, []string{topic.Name}, topic.Schemas)
			require.True(t, strings.HasPrefix(topic.Name, topic.Owner+"."), topic.Name)
		case events.KindCommand:
			require.Equal(t, topic.Owner+".commands", topic.Name)
		case events.KindDeadLetter:
			require.Equal(t, events.DeadLetterTopic(topic.Owner), topic.Name)
			require.Empty(t, topic.Schemas)
		case events.KindRedrive:
			require.Equal(t, events.RedriveTopic(topic.Owner), topic.Name)
			require.Empty(t, topic.Schemas)
		default:
			require.Fail(t, "unknown kind", topic.Name)
		}
	}
	require.Len(t, carries, len(events.All()), "a topic carries what has no type, or a type has no topic")
	for _, m := range events.All() {
		require.Equal(t, m.Topic, carries[m.Type], m.Type)
	}
	for _, service := range services {
		require.True(t, names[events.DeadLetterTopic(service)], service)
		require.True(t, names[events.RedriveTopic(service)], service)
	}
}

func TestAsyncAPIChannelsAreTheTopics(t *testing.T) {
	t.Parallel()
	doc := readAsync(t)
	for _, topic := range events.Topics() {
		channel, ok := doc.Channels[topic.Name]
		require.True(t, ok, "asyncapi.yaml lacks %s", topic.Name)
		require.Equal(t, topic.Name, channel.Address)
		kafka := channel.Bindings.Kafka
		require.Equal(t, topic.Partitions, kafka.Partitions, topic.Name)
		deployed, err := topic.In("production")
		require.NoError(t, err)
		require.Equal(t, deployed.Environment.Replication, kafka.Replicas, topic.Name)
		require.Equal(t, []string{topic.CleanupPolicy}, kafka.Topic.Cleanup, topic.Name)
		require.Equal(t, topic.Retention.Milliseconds(), kafka.Topic.Retention, topic.Name)
		require.Equal(t, topic.MaxMessageBytes, kafka.Topic.MaxBytes, topic.Name)
		require.Len(t, channel.Messages, len(carried(topic)), topic.Name)
		for _, message := range carried(topic) {
			require.Equal(t, "#/components/messages/"+message, channel.Messages[message].Ref, topic.Name)
		}
	}
	require.Len(t, doc.Channels, len(events.Topics()), "asyncapi.yaml has a channel that is no topic")
}

func TestAsyncAPIMessagesAreTheRegistry(t *testing.T) {
	t.Parallel()
	doc := readAsync(t)
	for _, m := range events.All() {
		message, ok := doc.Components.Messages[m.Type]
		require.True(t, ok, "asyncapi.yaml lacks %s", m.Type)
		require.Equal(t, m.Type, message.Name)
		require.Equal(t, []ref{{Ref: "#/components/messageTraits/keyed"}}, message.Traits)
		var payload ref
		require.NoError(t, message.Payload.Decode(&payload))
		require.Equal(t, "./schemas/"+m.Type+".json", payload.Ref)
		require.FileExists(t, filepath.FromSlash(payload.Ref))
		headers, err := yaml.Marshal(&message.Headers)
		require.NoError(t, err)
		require.Contains(t, string(headers), "#/components/schemas/CloudEvent")
		require.Contains(t, string(headers), "ce_type: {const: "+m.Type+"}")
	}
	require.Len(t, doc.Components.Messages, len(events.All())+2, "only dead-letter and redriven have no type")
}

func TestAsyncAPISaysWhoSendsAndWhoReceives(t *testing.T) {
	t.Parallel()
	doc := readAsync(t)
	senders, receivers := map[string][]string{}, map[string][]string{}
	for name, operation := range doc.Operations {
		require.Len(t, operation.Tags, 1, name)
		service := operation.Tags[0].Name
		require.Contains(t, services, service, name)
		topic := strings.TrimPrefix(operation.Channel.Ref, "#/channels/")
		require.Equal(t, fmt.Sprintf("%s.%s.%s", service, operation.Action, topic), name)
		channel, ok := doc.Channels[topic]
		require.True(t, ok, name)
		require.Len(t, operation.Messages, len(channel.Messages), name)
		for message := range channel.Messages {
			require.Contains(t, operation.Messages, ref{Ref: operation.Channel.Ref + "/messages/" + message}, name)
		}
		switch operation.Action {
		case "send":
			senders[topic] = append(senders[topic], service)
		case "receive":
			receivers[topic] = append(receivers[topic], service)
		default:
			require.Fail(t, "unknown action", name)
		}
	}
	for _, topic := range events.Topics() {
		require.Len(t, senders[topic.Name], 1, "%s has one sender", topic.Name)
		require.NotEmpty(t, receivers[topic.Name], "nobody receives %s", topic.Name)
		switch topic.Kind {
		case events.KindEvent:
			require.Equal(t, topic.Owner, senders[topic.Name][0], topic.Name)
		case events.KindCommand:
			require.Equal(t, []string{topic.Owner}, receivers[topic.Name])
		default:
			require.Equal(t, []string{topic.Owner}, senders[topic.Name])
			require.Equal(t, []string{topic.Owner}, receivers[topic.Name])
		}
		for _, service := range services {
			uses := slices.ContainsFunc(events.TopicsOf(service), func(t events.Topic) bool { return t.Name == topic.Name })
			named := slices.Contains(senders[topic.Name], service) || slices.Contains(receivers[topic.Name], service)
			require.Equal(t, named, uses, "%s %s", service, topic.Name)
		}
	}
	require.Empty(t, events.TopicsOf("nobody"))
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"development", "production"}, events.Environments())
	topic := events.Topics()[0]
	_, partitions, replication, configs := topic.KafkaTopic()
	require.EqualValues(t, 6, partitions)
	require.Zero(t, replication, "what depends on the environment is not said without one")
	require.Equal(t, map[string]string{"cleanup.policy": "delete", "retention.ms": "1209600000", "max.message.bytes": "1048576"}, configs)
	for environment, want := range map[string]events.Environment{
		"production": {Replication: 3, MinInsyncReplicas: 2}, "development": {Replication: 1, MinInsyncReplicas: 1},
	} {
		in, err := topic.In(environment)
		require.NoError(t, err)
		require.Equal(t, want, in.Environment)
		_, _, replication, configs = in.KafkaTopic()
		require.EqualValues(t, want.Replication, replication)
		require.Equal(t, strconv.Itoa(want.MinInsyncReplicas), configs["min.insync.replicas"])
	}
	_, err := topic.In("prod")
	require.EqualError(t, err, `there is no environment "prod", must be one of development, production`)
}
