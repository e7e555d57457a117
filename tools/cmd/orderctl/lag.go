package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/internal/terminal"
)

type lagCmd struct {
	cluster    `embed:""`
	Groups     []string      `name:"group" help:"Only these consumer groups; the default is every service's own, its dead-letter index, and what else is called <service>.…"`
	Partitions bool          `help:"Show each partition, with the offsets."`
	Old        time.Duration `help:"Say so when the oldest record has waited for longer than this." default:"5m"`
	Watch      time.Duration `help:"Show it again in this interval, until Ctrl-C."`
	JSON       bool          `name:"json" help:"Print JSON for programs."`
}

// Help is what --help says besides the flags.
func (lagCmd) Help() string {
	return `The numbers are those of 'kafka-consumer-groups --describe': LAG counts the offsets between a group's commit and the end
of the partition. Where a group has no commit, Kafka's tool shows '-'; here it is everything that stands in the partition,
because that is what the group will read when it starts. OLDEST is for how long the oldest record that waits has stood
there: '-' when none waits, 'unknown' when it could not be read.`
}

// Run shows the lag once, or again and again.
func (l lagCmd) Run(ctx context.Context, c console) (err error) {
	if l.Old <= 0 || l.Watch < 0 || l.Watch > 0 && l.Watch < 100*time.Millisecond {
		return errors.New("--old must be a positive duration, and --watch 100ms or more")
	}
	admin, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	for {
		groups, err := l.groups(ctx, admin)
		if err != nil {
			return err
		}
		lags, err := admin.Lag(ctx, groups)
		if ctx.Err() != nil && l.Watch > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if l.Watch > 0 && terminal.Is(c.out) {
			say(c.out, "\x1b[H\x1b[2J") // to the top of an empty screen
		}
		if err := l.print(c, lags, time.Now()); err != nil || l.Watch == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.Watch):
			say(c.out, "\n")
		}
	}
}

// groups are those to show with the topics that they are known to read. Groups of a service beside its own, such as
// those of a replay, are found in the cluster.
func (l lagCmd) groups(ctx context.Context, admin *kafka.Admin) (map[string][]string, error) {
	ours := client.Groups()
	if len(l.Groups) > 0 {
		chosen := map[string][]string{}
		for _, name := range l.Groups {
			chosen[name] = topicsOf(ours, name)
		}
		return chosen, nil
	}
	there, err := admin.Groups(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range there {
		if serviceOf(name) != "" {
			ours[name] = topicsOf(ours, name)
		}
	}
	return ours, nil
}

// topicsOf are the topics that a group is known to read: those of the contracts, or what a replay beside a service reads.
func topicsOf(ours map[string][]string, group string) []string {
	switch known, is := ours[group]; {
	case is:
		return known
	case serviceOf(group) == "":
		return nil
	case strings.HasSuffix(group, deadletter.IndexGroup("")):
		return []string{deadletter.Topic(strings.TrimSuffix(group, deadletter.IndexGroup("")))}
	default:
		return []string{deadletter.RedriveTopic(group)}
	}
}

// serviceOf is the service that runs a group, or empty.
func serviceOf(group string) string {
	name, _, _ := strings.Cut(group, ".")
	if slices.Contains(client.Services(), name) {
		return name
	}
	return ""
}

func (l lagCmd) print(c console, lags []kafka.GroupLag, now time.Time) error {
	hints := l.hints(lags, now)
	if l.JSON {
		return printJSON(c, lagJSON(lags, hints, now))
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	if l.Partitions {
		say(table, "GROUP\tSTATE\tMEMBERS\tTOPIC\tPARTITION\tCURRENT-OFFSET\tLOG-END-OFFSET\tLAG\tOLDEST\n")
	} else {
		say(table, "GROUP\tSTATE\tMEMBERS\tTOPIC\tLAG\tWORST PARTITION\tOLDEST\n")
	}
	for _, g := range lags {
		if len(g.Partitions) == 0 {
			say(table, "%s\t%s\t%d\t-\n", g.Group, g.State, g.Members)
		}
		if l.Partitions {
			for _, p := range g.Partitions {
				current := "-"
				if p.Committed >= 0 {
					current = strconv.FormatInt(p.Committed, 10)
				}
				say(table, "%s\t%s\t%d\t%s\t%d\t%s\t%d\t%d\t%s\n", g.Group, g.State, g.Members, p.Topic, p.Partition, current, p.End, p.Lag,
					oldest([]kafka.PartitionLag{p}, now))
			}
			continue
		}
		for _, of := range byTopic(g.Partitions) {
			lag, worst := sum(of), "-"
			if w := slices.MaxFunc(of, func(a, b kafka.PartitionLag) int { return cmp.Compare(a.Lag, b.Lag) }); w.Lag > 0 {
				worst = fmt.Sprintf("%d: %d", w.Partition, w.Lag)
			}
			say(table, "%s\t%s\t%d\t%s\t%d\t%s\t%s\n", g.Group, g.State, g.Members, of[0].Topic, lag, worst, oldest(of, now))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	l.printHints(c.out, hints)
	return nil
}

func (l lagCmd) printHints(out io.Writer, hints []string) {
	style := terminal.For(out)
	for _, hint := range hints {
		say(out, "%s\n", style.Bad(hint))
	}
}

// byTopic splits partitions, which are sorted, into those of each topic.
func byTopic(partitions []kafka.PartitionLag) [][]kafka.PartitionLag {
	var topics [][]kafka.PartitionLag
	for i, p := range partitions {
		if i == 0 || p.Topic != partitions[i-1].Topic {
			topics = append(topics, nil)
		}
		topics[len(topics)-1] = append(topics[len(topics)-1], p)
	}
	return topics
}

func sum(partitions []kafka.PartitionLag) (n int64) {
	for _, p := range partitions {
		n += p.Lag
	}
	return n
}

// oldest is the age of the oldest record in partitions, for a person.
func oldest(partitions []kafka.PartitionLag, now time.Time) string {
	text, most := "-", time.Duration(-1)
	for _, p := range partitions {
		age, known := p.Age(now)
		switch {
		case !known && most < 0:
			text = "unknown"
		case known && !p.Oldest.IsZero() && age > most:
			text, most = age.Round(time.Second).String(), age
		}
	}
	return text
}

// hints say what does not move, why, and what to do.
func (l lagCmd) hints(lags []kafka.GroupLag, now time.Time) []string {
	var hints []string
	for _, g := range lags {
		if lag := sum(g.Partitions); g.Members == 0 && slices.ContainsFunc(g.Partitions, waits) {
			hints = append(hints, fmt.Sprintf(
				"%s: %d records wait and nobody reads them, the group has no members (%s). Start %s; if it runs, its /readyz and its log say why it does not join.",
				g.Group, lag, g.State, startOf(g.Group)))
		}
		for _, p := range g.Partitions {
			if deleted := p.Deleted(); deleted > 0 {
				hints = append(hints, fmt.Sprintf(
					"%s: %s, partition %d: %d records were deleted before they were read, up to offset %d. They are lost to this group; raise the topic's retention.",
					g.Group, p.Topic, p.Partition, deleted, p.Start))
			}
			if age, _ := p.Age(now); g.Members > 0 && age > l.Old {
				hints = append(hints, fmt.Sprintf(
					"%s: %s, partition %d: the record at offset %d has waited for %s, since %s. The service is too slow (add replicas, up to one a partition) or waits for its database or the outside: its /readyz and its log say which.",
					g.Group, p.Topic, p.Partition, max(p.Committed, p.Start), age.Round(time.Second), p.Oldest.Format(time.RFC3339)))
			}
		}
	}
	return hints
}

// waits tells whether there is a record to read: the last offsets of a partition may be markers of transactions.
func waits(p kafka.PartitionLag) bool { return p.Unknown || !p.Oldest.IsZero() }

// startOf says what to start for a group to have members.
func startOf(group string) string {
	service := serviceOf(group)
	switch own := strings.TrimSuffix(group, deadletter.IndexGroup("")); {
	case service == "":
		return "its service"
	case own != service:
		return "the " + service + " service with REPLAY_GROUP=" + own
	default:
		return "the " + service + " service"
	}
}

type partitionJSON struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Current is null without a commit.
	Current *int64 `json:"current_offset"`
	Start   int64  `json:"log_start_offset"`
	End     int64  `json:"log_end_offset"`
	Lag     int64  `json:"lag"`
	// Age is null when it is not known, and 0 when nothing waits.
	Age *float64 `json:"oldest_age_seconds"`
}

type groupJSON struct {
	Group      string          `json:"group"`
	State      string          `json:"state"`
	Members    int             `json:"members"`
	Lag        int64           `json:"lag"`
	Partitions []partitionJSON `json:"partitions"`
}

type lagReport struct {
	At     time.Time   `json:"at"`
	Groups []groupJSON `json:"groups"`
	Hints  []string    `json:"hints"`
}

func lagJSON(lags []kafka.GroupLag, hints []string, now time.Time) lagReport {
	report := lagReport{At: now.UTC(), Groups: []groupJSON{}, Hints: append([]string{}, hints...)}
	for _, g := range lags {
		group := groupJSON{Group: g.Group, State: g.State, Members: g.Members, Lag: sum(g.Partitions), Partitions: []partitionJSON{}}
		for _, p := range g.Partitions {
			one := partitionJSON{Topic: p.Topic, Partition: p.Partition, Start: p.Start, End: p.End, Lag: p.Lag}
			if p.Committed >= 0 {
				one.Current = &p.Committed
			}
			if age, known := p.Age(now); known {
				seconds := age.Seconds()
				one.Age = &seconds
			}
			group.Partitions = append(group.Partitions, one)
		}
		report.Groups = append(report.Groups, group)
	}
	return report
}
