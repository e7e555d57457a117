package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// settleTimeout bounds the wait until the brokers show what was changed.
const settleTimeout = 15 * time.Second

// Apply makes changes, which Plan made of declared, and returns when the brokers show them. It does all or nothing: with
// one refused change among them, or one that the cluster would turn down, it changes nothing. It calls did after each
// change. When it fails half way, what was done stays, and a new Plan has the rest.
//
// More copies are waited for, one topic after the other, until ctx ends; the cluster goes on copying after that.
func (a *Admin) Apply(ctx context.Context, declared []Topic, changes []Change, did func(Change)) error {
	for _, c := range changes {
		if c.Refused != "" {
			return fault.Permanentf("change %s of topic %s: %s", c.Kind, c.Topic, c.Refused)
		}
	}
	byName := map[string]Topic{}
	for _, t := range declared {
		byName[t.Name] = t
	}
	for _, dry := range []bool{true, false} {
		// New partitions come first: nothing may be appended between the look that they were safe and now. Copies come
		// before settings, because a topic that wants more in-sync copies than it has takes no record.
		for _, kind := range []ChangeKind{ChangePartitions, ChangeCreate, ChangeReplication, ChangeConfig} {
			for _, c := range changes {
				if c.Kind != kind {
					continue
				}
				if err := a.change(ctx, byName[c.Topic], c, dry); err != nil {
					return err
				}
				if !dry {
					did(c)
				}
			}
		}
	}
	return a.settle(ctx, declared)
}

// change makes one change, or with dry only asks the cluster whether it would.
func (a *Admin) change(ctx context.Context, t Topic, c Change, dry bool) error {
	switch c.Kind {
	case ChangeCreate:
		return a.create(ctx, t, dry)
	case ChangePartitions:
		return a.do(ctx, "add partitions to "+t.Name, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
			return admin.CreatePartitions(t.Name, t.Partitions, nil, dry)
		})
	case ChangeConfig:
		return a.do(ctx, fmt.Sprintf("set %s of %s", c.Config, t.Name), func(_ sarama.Client, admin sarama.ClusterAdmin) error {
			return admin.IncrementalAlterConfig(sarama.TopicResource, t.Name, map[string]sarama.IncrementalAlterConfigsEntry{
				c.Config: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &c.To},
			}, dry)
		})
	case ChangeReplication:
		if dry { // Kafka cannot be asked
			return nil
		}
		return a.replicate(ctx, t)
	default:
		return fault.Permanentf("change topic %s: unknown kind %q", c.Topic, c.Kind)
	}
}

// replicate adds copies of each partition and waits until they are in sync.
func (a *Admin) replicate(ctx context.Context, t Topic) error {
	cluster, err := a.Describe(ctx, t.Name)
	if err != nil {
		return err
	}
	operation := "add copies of " + t.Name
	assignment := spread(cluster.Topics[t.Name].Replicas, cluster.Brokers, int(t.Replication))
	err = a.do(ctx, operation, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		return admin.AlterPartitionReassignments(t.Name, assignment)
	})
	if err != nil {
		return err
	}
	partitions := make([]int32, len(assignment))
	for i := range partitions {
		partitions[i] = int32(i)
	}
	ticker := time.NewTicker(topicTick)
	defer ticker.Stop()
	for moving := true; moving; {
		moving, err = answer(ctx, a, operation, func(_ sarama.Client, admin sarama.ClusterAdmin) (bool, error) {
			status, err := admin.ListPartitionReassignments(t.Name, partitions)
			return len(status[t.Name]) > 0, err
		})
		if err != nil {
			return err
		}
		if moving {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fault.Unavailablef("%s: the cluster is still copying: %w", operation, ctx.Err())
			}
		}
	}
	return nil
}

// spread adds brokers to the copies of each partition until it has n, those with the fewest copies first and in racks
// that the partition is not in yet. What is there stays, and so does the preferred leader.
func spread(current [][]int32, brokers []Broker, n int) [][]int32 {
	load, racks := map[int32]int{}, map[int32]string{}
	for _, b := range brokers {
		racks[b.ID] = b.Rack
	}
	for _, replicas := range current {
		for _, id := range replicas {
			load[id]++
		}
	}
	all := make([][]int32, len(current))
	for p, replicas := range current {
		replicas = slices.Clone(replicas)
		for len(replicas) < n {
			rackmates := map[string]int{}
			for _, id := range replicas {
				rackmates[racks[id]]++
			}
			var best *Broker
			for i, b := range brokers {
				if slices.Contains(replicas, b.ID) {
					continue
				}
				if best == nil || rackmates[b.Rack] < rackmates[best.Rack] ||
					rackmates[b.Rack] == rackmates[best.Rack] && load[b.ID] < load[best.ID] {
					best = &brokers[i]
				}
			}
			if best == nil {
				break // fewer brokers than copies; Plan refuses that
			}
			replicas = append(replicas, best.ID)
			load[best.ID]++
		}
		all[p] = replicas
	}
	return all
}

// settle waits until the brokers show what was changed. It fails on what they were told and do not show.
func (a *Admin) settle(ctx context.Context, declared []Topic) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	ticker := time.NewTicker(topicTick)
	defer ticker.Stop()
	var what []string
	for {
		cluster, err := a.Describe(ctx, namesOf(declared)...)
		if err != nil && ctx.Err() == nil {
			return err
		} else if err != nil {
			return fault.Unavailablef("the cluster took the changes but does not show them yet: %s: %w", strings.Join(what, ", "), ctx.Err())
		}
		left, err := Plan(declared, cluster, true)
		if err != nil {
			return err
		}
		what = nil
		for _, c := range left {
			what = append(what, fmt.Sprintf("%s of %s", c.Kind, c.Topic))
		}
		if len(left) == 0 && !slices.ContainsFunc(slices.Collect(maps.Values(cluster.Topics)), func(t TopicState) bool { return t.Leaderless }) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // the next question ends at once
		}
	}
}
