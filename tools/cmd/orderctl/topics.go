package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/internal/terminal"
	"github.com/orderflow/orderflow/tools/stack"
)

const retryPause = 500 * time.Millisecond

type topicsCmd struct {
	Plan  topicsPlanCmd  `cmd:"" help:"Show what 'apply' would change in the cluster, and what it refuses to."`
	Apply topicsApplyCmd `cmd:"" help:"Make the cluster's topics as topics.yaml declares them: all of it or nothing, and never less than there is."`
	Check topicsCheckCmd `cmd:"" help:"Fail when the cluster's topics are not as topics.yaml declares them."`
}

// cluster is how to reach Kafka, for every command that does.
type cluster struct {
	Brokers []string      `help:"Kafka brokers, host:port separated by commas." env:"KAFKA_BROKERS" required:""`
	Wait    time.Duration `help:"How long to wait for the cluster to answer." default:"30s"`
}

// connect tries until the cluster answers, the wait is over, or ctx ends.
func (k cluster) connect(ctx context.Context) (*kafka.Admin, error) {
	admin, err := kafka.NewAdmin(kafka.Config{Brokers: k.Brokers, ClientID: "orderctl"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, k.Wait)
	defer cancel()
	for {
		err := admin.Reachable(ctx)
		if err == nil {
			return admin, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("reach Kafka at %v within %s: %w", k.Brokers, k.Wait, err), admin.Close())
		case <-time.After(retryPause):
		}
	}
}

// topicsScope is which cluster is held against which declaration.
type topicsScope struct {
	cluster `embed:""`
	Env     string `help:"What kind of cluster it is, as topics.yaml has them: ${enum}." env:"ORDERFLOW_ENV" enum:"${environments}" default:"production"`
}

// topicsPlan is what is different; its fields are what --json prints.
type topicsPlan struct {
	Environment string         `json:"environment"`
	Brokers     int            `json:"brokers"`
	Changes     []kafka.Change `json:"changes"`
	// Refused counts the changes that apply refuses; with one of them it changes nothing.
	Refused int          `json:"refused"`
	Notes   []topicsNote `json:"notes"`

	declared []kafka.Topic
}

// topicsNote is something in the cluster that topics.yaml says nothing about.
type topicsNote struct {
	Topic string `json:"topic"`
	Note  string `json:"note"`
}

func (s topicsScope) plan(ctx context.Context, admin *kafka.Admin, grow bool) (topicsPlan, error) {
	declared, err := stack.Topics(s.Env)
	if err != nil {
		return topicsPlan{}, err
	}
	var names []string
	for _, t := range declared {
		names = append(names, t.Name)
	}
	actual, err := admin.Describe(ctx, names...)
	if err != nil {
		return topicsPlan{}, err
	}
	p := topicsPlan{Environment: s.Env, Brokers: len(actual.Brokers), Notes: []topicsNote{}, declared: declared}
	if p.Changes, err = kafka.Plan(declared, actual, grow); err != nil {
		return p, fmt.Errorf("the topics of %s do not fit this cluster (is it another --env?): %w", s.Env, err)
	}
	p.Changes = append([]kafka.Change{}, p.Changes...) // [] for programs, also when there are none
	for _, c := range p.Changes {
		if c.Refused != "" {
			p.Refused++
		}
	}
	for _, t := range declared {
		overrides := actual.Topics[t.Name].Overrides
		for _, name := range slices.Sorted(maps.Keys(overrides)) {
			if _, ours := t.Configs[name]; !ours {
				p.Notes = append(p.Notes, topicsNote{t.Name, fmt.Sprintf("has %s=%s, which is not declared", name, overrides[name])})
			}
		}
	}
	there, err := admin.TopicNames(ctx)
	if err != nil {
		return p, err
	}
	owners := map[string]bool{}
	for _, t := range events.Topics() {
		owners[t.Owner] = true
	}
	for _, name := range there {
		if owner, _, _ := strings.Cut(name, "."); owners[owner] && !slices.Contains(names, name) {
			p.Notes = append(p.Notes, topicsNote{name, "is named like a topic of " + owner + ", but not declared"})
		}
	}
	return p, nil
}

// print writes the changes and notes for a person.
func (p topicsPlan) print(out io.Writer) {
	style := terminal.For(out)
	for _, c := range p.Changes {
		line := describe(c)
		if c.Refused == "" {
			say(out, "%s\n", style.Good(line))
			continue
		}
		say(out, "%s\n  %s\n", style.Bad(line), "refused: "+c.Refused)
		if grows(c) {
			say(out, "  told how: --grow=drained with the senders stopped, or --grow=anyway\n")
		}
		say(out, "  by hand: %s\n", c.ByHand)
	}
	for _, n := range p.Notes {
		say(out, "%s\n", style.Faint(fmt.Sprintf("left alone: %s %s", n.Topic, n.Note)))
	}
}

// grows tells whether a change adds partitions.
func grows(c kafka.Change) bool {
	from, err := strconv.Atoi(c.From)
	to, wrong := strconv.Atoi(c.To)
	return c.Kind == kafka.ChangePartitions && err == nil && wrong == nil && to > from
}

// differing are the topics that are not as declared.
func (p topicsPlan) differing() string {
	var names []string
	for _, c := range p.Changes {
		names = append(names, c.Topic)
	}
	return strings.Join(slices.Compact(names), ", ") // the changes of a topic follow each other
}

func (p topicsPlan) same() string {
	return fmt.Sprintf("all %d topics are as topics.yaml declares them for %s.\n", len(p.declared), p.Environment)
}

// describe is a change in one line.
func describe(c kafka.Change) string {
	switch c.Kind {
	case kafka.ChangeCreate:
		return fmt.Sprintf("+ %s: create with %s", c.Topic, c.To)
	case kafka.ChangeConfig:
		return fmt.Sprintf("~ %s: %s %s → %s", c.Topic, c.Config, readable(c.Config, c.From), readable(c.Config, c.To))
	default:
		return fmt.Sprintf("~ %s: %s %s → %s", c.Topic, c.Kind, c.From, c.To)
	}
}

// readable is a setting's value for a person: a time in days or hours.
func readable(config, value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch d := time.Duration(n) * time.Millisecond; {
	case config != "retention.ms" || err != nil || n > int64(1<<62/time.Millisecond):
		return value
	case n < 0:
		return "unlimited"
	case d >= 24*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	default:
		return d.String()
	}
}

type topicsPlanCmd struct {
	topicsScope `embed:""`
	JSON        bool `name:"json" help:"Print JSON for programs."`
}

// Run shows the difference and changes nothing.
func (t topicsPlanCmd) Run(ctx context.Context, c console) (err error) {
	admin, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	p, err := t.plan(ctx, admin, false)
	if err != nil {
		return err
	}
	if t.JSON {
		return printJSON(c, p)
	}
	p.print(c.out)
	switch {
	case len(p.Changes) == 0:
		say(c.out, "Nothing to change: %s", p.same())
	case p.Refused > 0:
		say(c.out, "%d changes, of which apply refuses %d: it would change nothing.\n", len(p.Changes), p.Refused)
	default:
		say(c.out, "%d changes.\n", len(p.Changes))
	}
	return nil
}

type topicsCheckCmd struct {
	topicsScope `embed:""`
}

// Run fails when anything is different.
func (t topicsCheckCmd) Run(ctx context.Context, c console) (err error) {
	admin, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	p, err := t.plan(ctx, admin, false)
	if err != nil {
		return err
	}
	if len(p.Changes) > 0 {
		p.print(c.out)
		return fmt.Errorf("these topics are not as topics.yaml declares them for %s: %s", p.Environment, p.differing())
	}
	say(c.out, "As it should be: %s", p.same())
	return nil
}

// How partitions may be added, which moves keys.
const (
	growNever   = "never"
	growDrained = "drained"
)

type topicsApplyCmd struct {
	topicsScope `embed:""`
	Grow        string        `help:"Whether partitions may be added, after which a key's next records go to another partition: ${enum}. drained: only to topics of which no record waits in any consumer group and to which nothing is appended for the time of --hold; stop their senders first and start them after it. anyway: records of one key may overtake each other." enum:"never,drained,anyway" default:"never"`
	Hold        time.Duration `help:"How long nothing may be appended to a topic that counts as drained." default:"5s"`
	Timeout     time.Duration `help:"How long all of it may take. New copies of partitions go on being made in the cluster after that." default:"10m"`
}

// Run makes the changes, or says which of them it refuses and makes none.
func (t topicsApplyCmd) Run(ctx context.Context, c console) (err error) {
	if t.Hold <= 0 || t.Timeout <= 0 {
		return fmt.Errorf("--hold is %s and --timeout %s, both must be more than 0s", t.Hold, t.Timeout)
	}
	admin, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	p, err := t.plan(ctx, admin, t.Grow != growNever)
	switch {
	case err != nil:
		return err
	case p.Refused > 0:
		p.print(c.out)
		return fmt.Errorf("%d of %d changes are refused, so nothing was changed", p.Refused, len(p.Changes))
	case len(p.Changes) == 0:
		say(c.out, "Nothing changed: %s", p.same())
		return nil
	}
	var grown []string
	for _, change := range p.Changes {
		if change.Kind == kafka.ChangePartitions {
			grown = append(grown, change.Topic)
		}
	}
	if len(grown) > 0 && t.Grow == growDrained {
		say(c.err, "looking for %s whether %s are drained\n", t.Hold, strings.Join(grown, ", "))
		why, err := admin.Undrained(ctx, grown, t.Hold)
		if err != nil {
			return err
		}
		if len(why) > 0 {
			return fmt.Errorf("partitions are not added and nothing was changed, because topics are not drained:\n  %s", strings.Join(why, "\n  "))
		}
	}
	done := 0
	err = admin.Apply(ctx, p.declared, p.Changes, func(change kafka.Change) {
		done++
		say(c.out, "%s\n", describe(change))
	})
	if err != nil {
		return fmt.Errorf("%d of %d changes were made; run it again for the rest: %w", done, len(p.Changes), err)
	}
	if len(grown) > 0 {
		say(c.out, "Processes that run take up to 10 minutes to see new partitions; those that start see them at once.\n")
	}
	say(c.out, "%d changes made: %s", done, p.same())
	return nil
}
