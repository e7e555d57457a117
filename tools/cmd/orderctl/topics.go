package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/internal/stack"
)

const retryPause = 500 * time.Millisecond

type topicsCmd struct {
	Apply topicsApplyCmd `cmd:"" help:"Create the topics of topics.yaml that are missing; those that are there stay as they are."`
	List  topicsListCmd  `cmd:"" help:"List the topics of topics.yaml beside what the cluster has."`
}

// cluster is how to reach Kafka, for every command that does.
type cluster struct {
	Brokers []string      `help:"Kafka brokers, host:port separated by commas." env:"KAFKA_BROKERS" required:""`
	Wait    time.Duration `help:"How long to wait for the cluster to answer." default:"30s"`
}

// connect tries until the cluster answers, the wait is over, or ctx ends.
func (k cluster) connect(ctx context.Context) (sarama.Client, error) {
	cfg := kafka.Config{Brokers: k.Brokers, ClientID: "orderctl"}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, k.Wait)
	defer cancel()
	settings := cfg.Sarama()
	settings.Metadata.Retry.Max = 0 // it is tried again here, until the wait is over
	for {
		c, err := sarama.NewClient(k.Brokers, settings)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach Kafka at %v within %s: %w", k.Brokers, k.Wait, err)
		case <-time.After(retryPause):
		}
	}
}

type topicsApplyCmd struct {
	cluster `embed:""`
}

// Run creates what is missing and says what that was.
func (t topicsApplyCmd) Run(ctx context.Context, c console) (err error) {
	client, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	admin, err := kafka.NewAdmin(kafka.Config{Brokers: t.Brokers, ClientID: "orderctl"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()

	topics := stack.Topics(len(client.Brokers()))
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = topic.Name
	}
	missing, err := admin.MissingTopics(ctx, names)
	if err != nil {
		return err
	}
	if err := admin.EnsureTopics(ctx, topics); err != nil {
		return err
	}
	for _, name := range missing {
		say(c.out, "created %s\n", name)
	}
	say(c.out, "%d topics are there, %d of them new.\n", len(topics), len(missing))
	return nil
}

type topicsListCmd struct {
	cluster `embed:""`
}

// Run prints a table, and fails when the cluster differs from topics.yaml.
func (t topicsListCmd) Run(ctx context.Context, c console) (err error) {
	client, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	there, err := client.Topics()
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	exists := make(map[string]bool, len(there))
	for _, name := range there {
		exists[name] = true
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	say(table, "TOPIC\tKIND\tOWNER\tPARTITIONS\tRETENTION\t\n")
	different := 0
	for _, topic := range events.Topics() {
		note := ""
		if !exists[topic.Name] {
			note = "missing"
		} else {
			partitions, err := client.Partitions(topic.Name)
			if err != nil {
				return fmt.Errorf("partitions of %s: %w", topic.Name, err)
			}
			if len(partitions) != topic.Partitions {
				note = fmt.Sprintf("the cluster has %d partitions", len(partitions))
			}
		}
		if note != "" {
			different++
		}
		say(table, "%s\t%s\t%s\t%d\t%s\t%s\n", topic.Name, topic.Kind, topic.Owner, topic.Partitions, days(topic.Retention), note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if different > 0 {
		return fmt.Errorf("%d topics differ from topics.yaml; `orderctl topics apply` creates those that are missing", different)
	}
	return nil
}

func days(d time.Duration) string { return fmt.Sprintf("%g d", d.Hours()/24) }
