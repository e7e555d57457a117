package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// Range is a stretch of a partition: the offsets from Start up to and without End.
type Range struct{ Start, End int64 }

// Commit is a group's note of how far it is in a partition, with a text of at most 4096 bytes.
type Commit struct {
	Offset   int64
	Metadata string
}

// Ranges returns what stands in each partition of a topic, as far as a reader of committed records gets.
func (a *Admin) Ranges(ctx context.Context, topic string) (map[int32]Range, error) {
	return answer(ctx, a, "offsets of "+topic, func(client sarama.Client, admin sarama.ClusterAdmin) (map[int32]Range, error) {
		found := map[int32]Range{}
		starts, err := atAll(client, admin, topic, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		ends, err := atAll(client, admin, topic, sarama.OffsetNewest)
		for p, start := range starts {
			found[p] = Range{Start: start, End: max(start, ends[p])}
		}
		return found, err
	})
}

// OffsetsAt returns for each partition of a topic the offset of the first record that is not older than at, by its
// timestamp, or -1 if there is none.
func (a *Admin) OffsetsAt(ctx context.Context, topic string, at time.Time) (map[int32]int64, error) {
	return answer(ctx, a, "offsets of "+topic, func(client sarama.Client, admin sarama.ClusterAdmin) (map[int32]int64, error) {
		return atAll(client, admin, topic, at.UnixMilli())
	})
}

func atAll(client sarama.Client, admin sarama.ClusterAdmin, topic string, at int64) (map[int32]int64, error) {
	if err := client.RefreshMetadata(topic); err != nil {
		return nil, err
	}
	partitions, err := client.Partitions(topic)
	if err != nil {
		return nil, err
	}
	ask := map[int32]int64{}
	for _, p := range partitions {
		ask[p] = at
	}
	found, err := offsets(admin, map[string]map[int32]int64{topic: ask}, sarama.ReadCommitted)
	return found[topic], err
}

// RecordTimes returns the timestamp of the first record in a stretch of each partition, where one could be read. Its
// cost is that of the ages in Lag.
func (a *Admin) RecordTimes(ctx context.Context, topic string, in map[int32]Range) (map[int32]time.Time, error) {
	// It is the question that Lag asks, for a group that stands there.
	asked := []GroupLag{{}}
	for p, r := range in {
		asked[0].Partitions = append(asked[0].Partitions, PartitionLag{Topic: topic, Partition: p, Committed: r.Start, Start: r.Start, End: r.End})
	}
	return answer(ctx, a, "records of "+topic, func(client sarama.Client, _ sarama.ClusterAdmin) (map[int32]time.Time, error) {
		readOldest(client, asked)
		found := map[int32]time.Time{}
		for _, l := range asked[0].Partitions {
			if !l.Oldest.IsZero() {
				found[l.Partition] = l.Oldest
			}
		}
		return found, nil
	})
}

// Commits returns what a group has committed in a topic; nothing if it does not exist.
func (a *Admin) Commits(ctx context.Context, group, topic string) (map[int32]Commit, error) {
	return answer(ctx, a, "commits of "+group, func(_ sarama.Client, admin sarama.ClusterAdmin) (map[int32]Commit, error) {
		committed, err := admin.ListConsumerGroupOffsets(group, nil)
		if err == nil && !errors.Is(committed.Err, sarama.ErrNoError) {
			err = committed.Err
		}
		if errors.Is(err, sarama.ErrGroupIDNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		found := map[int32]Commit{}
		for p, block := range committed.Blocks[topic] {
			if !errors.Is(block.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("%s/%d: %w", topic, p, block.Err)
			}
			if block.Offset >= 0 {
				found[p] = Commit{Offset: block.Offset, Metadata: block.Metadata}
			}
		}
		return found, nil
	})
}

// Commit writes commits of a group that has no members; of one that has, the cluster refuses it.
func (a *Admin) Commit(ctx context.Context, group, topic string, commits map[int32]Commit) error {
	return a.do(ctx, "commit for "+group, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		all := map[int32]sarama.OffsetAndMetadata{}
		for p, c := range commits {
			all[p] = sarama.OffsetAndMetadata{Offset: c.Offset, Metadata: c.Metadata, LeaderEpoch: -1}
		}
		answer, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: all}, nil)
		if err != nil {
			return err
		}
		for p, code := range answer.Errors[topic] {
			if !errors.Is(code, sarama.ErrNoError) {
				return fmt.Errorf("%s/%d: %w", topic, p, code)
			}
		}
		return nil
	})
}

// DeleteGroup removes a group without members and its commits. One that does not exist is fine.
func (a *Admin) DeleteGroup(ctx context.Context, name string) error {
	return a.do(ctx, "delete group "+name, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		if err := admin.DeleteConsumerGroup(name); !errors.Is(err, sarama.ErrGroupIDNotFound) {
			return err
		}
		return nil
	})
}

// DeleteTopic removes a topic and what stands in it. One that does not exist is fine.
func (a *Admin) DeleteTopic(ctx context.Context, name string) error {
	return a.do(ctx, "delete topic "+name, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		if err := admin.DeleteTopic(name); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return err
		}
		return nil
	})
}
