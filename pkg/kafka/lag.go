package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// GroupLag is a consumer group, how it is and how far it is behind.
type GroupLag struct {
	Group string
	// State is Kafka's word: Stable, PreparingRebalance, CompletingRebalance, Empty (it has commits and no members) or
	// Dead (it does not exist).
	State string
	// Members is how many processes are in the group now.
	Members int
	// Partitions are sorted by topic and partition.
	Partitions []PartitionLag
}

// PartitionLag is how far a group is behind in one partition.
type PartitionLag struct {
	Topic     string
	Partition int32
	// Committed is the next offset that the group will read, -1 if it never committed. Start is the oldest offset that
	// the log still has, End the next that will be written.
	Committed, Start, End int64
	// Lag is the number of offsets from Committed to End, as Kafka's own tools count: records that were deleted unread
	// count, and so do transaction markers. Without a commit, or with one that is not in the log, it is everything from
	// Start, which is where such a group begins to read.
	Lag int64
	// Oldest is the timestamp of the oldest record that waits; zero if none does, or if Unknown.
	Oldest time.Time
	// Unknown says that the oldest record could not be read.
	Unknown bool
}

// Deleted is how many offsets left the log before the group had read them.
func (l PartitionLag) Deleted() int64 {
	if l.Committed < 0 || l.Committed > l.End {
		return 0
	}
	return max(0, l.Start-l.Committed)
}

// Age is for how long the oldest record has been waiting: 0 if none does, and false if it is not known.
func (l PartitionLag) Age(now time.Time) (time.Duration, bool) {
	if l.Unknown || l.Oldest.IsZero() {
		return 0, !l.Unknown
	}
	return max(0, now.Sub(l.Oldest)), true
}

// position is where the group reads next.
func (l PartitionLag) position() int64 {
	if l.Committed > l.End {
		return l.Start
	}
	return max(l.Committed, l.Start)
}

// Lag tells how far groups are behind: in the topics given for each, which may be none, and in those that it has
// committed in or that its members are assigned. A group that does not exist is Dead, and in the topics given for it
// everything waits. The groups come sorted by name, and topics that do not exist are left out.
//
// It costs a few requests to each broker, whatever the number of groups and partitions. The age of the oldest record
// is an extra that is bounded and may stay unknown; see maxProbes.
func (a *Admin) Lag(ctx context.Context, groups map[string][]string) ([]GroupLag, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	return answer(ctx, a, "lag", func(client sarama.Client, admin sarama.ClusterAdmin) ([]GroupLag, error) {
		lags, err := behind(client, admin, groups)
		if err == nil {
			readOldest(client, lags)
		}
		return lags, err
	})
}

// Behind is Lag without the oldest records: it reads no topic.
func (a *Admin) Behind(ctx context.Context, groups map[string][]string) ([]GroupLag, error) {
	return answer(ctx, a, "lag", func(client sarama.Client, admin sarama.ClusterAdmin) ([]GroupLag, error) {
		return behind(client, admin, groups)
	})
}

func behind(client sarama.Client, admin sarama.ClusterAdmin, groups map[string][]string) ([]GroupLag, error) {
	var lags []GroupLag
	topics, err := describe(admin, groups, &lags)
	if err != nil {
		return nil, err
	}
	all := map[string]map[string][]int32{}
	for group := range groups {
		all[group] = nil // every topic
	}
	committed, err := admin.ListConsumerGroupOffsetsBatch(all)
	if err != nil {
		return nil, fmt.Errorf("committed offsets: %w", err)
	}
	for group, c := range committed {
		// A group that does not exist has no commits.
		if !errors.Is(c.Err, sarama.ErrNoError) && !errors.Is(c.Err, sarama.ErrGroupIDNotFound) {
			return nil, fmt.Errorf("committed offsets of %s: %w", group, c.Err)
		}
		for topic, partitions := range c.Blocks {
			for p, block := range partitions {
				if !errors.Is(block.Err, sarama.ErrNoError) {
					return nil, fmt.Errorf("committed offset of %s in %s/%d: %w", group, topic, p, block.Err)
				}
			}
			topics[group][topic] = true
		}
	}
	// Committed offsets are read before the ends, so that a commit in between cannot make a lag negative.
	starts, ends, err := bounds(client, admin, topics)
	if err != nil {
		return nil, err
	}
	for i := range lags {
		g := &lags[i]
		for topic := range topics[g.Group] {
			for p, end := range ends[topic] {
				l := PartitionLag{Topic: topic, Partition: p, Committed: -1, Start: min(starts[topic][p], end), End: end}
				if c := committed[g.Group]; c != nil {
					if block := c.Blocks[topic][p]; block != nil {
						l.Committed = block.Offset
					}
				}
				l.Lag = l.End - l.Committed
				if l.Committed < 0 || l.Committed > l.End {
					l.Lag = l.End - l.Start
				}
				g.Partitions = append(g.Partitions, l)
			}
		}
		slices.SortFunc(g.Partitions, func(x, y PartitionLag) int {
			return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
		})
	}
	return lags, nil
}

// Groups returns the names of the consumer groups that exist, sorted.
func (a *Admin) Groups(ctx context.Context) ([]string, error) {
	return answer(ctx, a, "list groups", func(_ sarama.Client, admin sarama.ClusterAdmin) ([]string, error) {
		all, err := admin.ListConsumerGroups()
		return slices.Sorted(maps.Keys(all)), err
	})
}

// describe appends a GroupLag for each group, without partitions, and returns the topics of each as far as it knows.
func describe(admin sarama.ClusterAdmin, groups map[string][]string, lags *[]GroupLag) (map[string]map[string]bool, error) {
	names := slices.Sorted(maps.Keys(groups))
	descriptions, err := admin.DescribeConsumerGroups(names)
	if err != nil {
		return nil, fmt.Errorf("describe groups: %w", err)
	}
	topics := map[string]map[string]bool{}
	for _, name := range names {
		topics[name] = map[string]bool{}
		for _, topic := range groups[name] {
			topics[name][topic] = true
		}
		g := GroupLag{Group: name, State: "Dead"}
		for _, d := range descriptions {
			if d.GroupId != name || errors.Is(d.Err, sarama.ErrGroupIDNotFound) {
				continue
			}
			if !errors.Is(d.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("describe group %s: %w", name, d.Err)
			}
			g.State, g.Members = d.State, len(d.Members)
			assigned(d, topics[name])
		}
		*lags = append(*lags, g)
	}
	return topics, nil
}

// assigned adds the topics that a group's members have been given.
func assigned(group *sarama.GroupDescription, into map[string]bool) {
	for _, member := range group.Members {
		// A member between two generations has no assignment, another client's may be in another format, and a group of
		// another kind than consumers has no topics.
		if given, err := member.GetMemberAssignment(); err == nil && given != nil {
			for topic := range given.Topics {
				into[topic] = true
			}
		}
	}
}

// bounds returns the oldest offset and the end of every partition of the topics that exist.
func bounds(client sarama.Client, admin sarama.ClusterAdmin, topics map[string]map[string]bool) (starts, ends map[string]map[int32]int64, err error) {
	wanted := map[string]bool{}
	for _, of := range topics {
		maps.Copy(wanted, of)
	}
	if len(wanted) == 0 {
		return nil, nil, nil
	}
	// Leaders move and topics come and go; one question for all. An unknown topic is an error here that says nothing of
	// the others.
	if err := client.RefreshMetadata(slices.Sorted(maps.Keys(wanted))...); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil, nil, err
	}
	first, last := map[string]map[int32]int64{}, map[string]map[int32]int64{}
	for topic := range wanted {
		partitions, err := client.Partitions(topic)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			continue
		} else if err != nil {
			return nil, nil, fmt.Errorf("partitions of %s: %w", topic, err)
		}
		first[topic], last[topic] = map[int32]int64{}, map[int32]int64{}
		for _, p := range partitions {
			first[topic][p], last[topic][p] = sarama.OffsetOldest, sarama.OffsetNewest
		}
	}
	if starts, err = offsets(admin, first, sarama.ReadUncommitted); err != nil {
		return nil, nil, err
	}
	ends, err = offsets(admin, last, sarama.ReadUncommitted)
	return starts, ends, err
}

func offsets(admin sarama.ClusterAdmin, ask map[string]map[int32]int64, level sarama.IsolationLevel) (map[string]map[int32]int64, error) {
	if len(ask) == 0 {
		return nil, nil // sarama makes an error of it
	}
	answer, err := admin.ListOffsets(ask, &sarama.ListOffsetsOptions{IsolationLevel: level})
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	found := map[string]map[int32]int64{}
	for topic, partitions := range ask {
		found[topic] = map[int32]int64{}
		for p := range partitions {
			result := answer[topic][p]
			if result == nil {
				return nil, fmt.Errorf("list offsets: no answer for %s/%d", topic, p)
			}
			if result.Err != nil && !errors.Is(result.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, p, result.Err)
			}
			found[topic][p] = result.Offset
		}
	}
	return found, nil
}
