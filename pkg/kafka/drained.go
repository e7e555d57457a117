package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Undrained says, a line each, why partitions cannot be added to the topics without records overtaking each other:
// records wait in a group that consumes the topic, or were appended within hold. It returns nothing when all are
// drained. It sees what was appended, not who may append next: that the senders are stopped is for the caller to see to.
func (a *Admin) Undrained(ctx context.Context, topics []string, hold time.Duration) ([]string, error) {
	before, err := a.ends(ctx, topics)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(hold):
	case <-ctx.Done():
		return nil, fault.Unavailablef("look whether topics are drained: %w", ctx.Err())
	}
	after, err := a.ends(ctx, topics)
	if err != nil {
		return nil, err
	}
	groups, err := a.consuming(ctx)
	if err != nil {
		return nil, err
	}
	var why []string
	for _, topic := range topics {
		if !maps.Equal(before[topic].end, after[topic].end) {
			why = append(why, fmt.Sprintf("%s: records were appended within %s", topic, hold))
		}
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		waiting, err := a.waiting(ctx, group, groups[group], after)
		if err != nil {
			return nil, err
		}
		for _, topic := range topics {
			if n := waiting[topic]; n > 0 {
				why = append(why, fmt.Sprintf("%s: %d records wait in group %s", topic, n, group))
			}
		}
	}
	return why, nil
}

// waiting counts by topic the records that a group has not committed, of the topics that it consumes: its members have
// been given them, or it has committed in them.
func (a *Admin) waiting(ctx context.Context, group string, given map[string]bool, spans map[string]span) (map[string]int64, error) {
	return answer(ctx, a, "offsets of group "+group, func(_ sarama.Client, admin sarama.ClusterAdmin) (map[string]int64, error) {
		counts := map[string]int64{}
		ask := map[string][]int32{}
		for topic, s := range spans {
			ask[topic] = slices.Collect(maps.Keys(s.end))
		}
		committed, err := admin.ListConsumerGroupOffsets(group, ask)
		if err == nil && !errors.Is(committed.Err, sarama.ErrNoError) {
			err = committed.Err
		}
		if errors.Is(err, sarama.ErrGroupIDNotFound) {
			return nil, nil // gone since it was listed
		} else if err != nil {
			return nil, err
		}
		for topic, s := range spans {
			consumes, n := given[topic], int64(0)
			for p, end := range s.end {
				next := s.first[p]
				if block := committed.GetBlock(topic, p); block != nil && block.Offset >= 0 {
					consumes, next = true, max(next, block.Offset)
				}
				n += end - next
			}
			if consumes {
				counts[topic] = n
			}
		}
		return counts, nil
	})
}

// span is what stands in a topic, by partition: the first offset, and the next that will be written.
type span struct{ first, end map[int32]int64 }

func (a *Admin) ends(ctx context.Context, topics []string) (map[string]span, error) {
	cluster, err := a.Describe(ctx, topics...)
	if err != nil {
		return nil, err
	}
	return answer(ctx, a, "offsets of topics", func(_ sarama.Client, admin sarama.ClusterAdmin) (map[string]span, error) {
		at := func(when int64) (map[string]map[int32]int64, error) {
			ask := map[string]map[int32]int64{}
			for name, state := range cluster.Topics {
				ask[name] = map[int32]int64{}
				for p := range state.Replicas {
					ask[name][int32(p)] = when
				}
			}
			return offsets(admin, ask, sarama.ReadUncommitted)
		}
		first, err := at(sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		end, err := at(sarama.OffsetNewest)
		spans := map[string]span{}
		for name := range cluster.Topics {
			spans[name] = span{first[name], end[name]}
		}
		return spans, err
	})
}

// consuming returns every consumer group with the topics that its members have been given.
func (a *Admin) consuming(ctx context.Context) (map[string]map[string]bool, error) {
	return answer(ctx, a, "list consumer groups", func(_ sarama.Client, admin sarama.ClusterAdmin) (map[string]map[string]bool, error) {
		groups := map[string]map[string]bool{}
		listed, err := admin.ListConsumerGroups()
		if err != nil || len(listed) == 0 {
			return nil, err
		}
		described, err := admin.DescribeConsumerGroups(slices.Collect(maps.Keys(listed)))
		for _, group := range described {
			groups[group.GroupId] = map[string]bool{}
			assigned(group, groups[group.GroupId])
		}
		return groups, err
	})
}
