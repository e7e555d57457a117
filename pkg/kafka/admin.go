package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// adminTimeout bounds each question to the cluster, whatever the caller's context says.
const adminTimeout = 10 * time.Second

// PartitionLag is how far a group is behind in one partition.
type PartitionLag struct {
	Topic     string
	Partition int32
	// Committed is the next offset that the group will read, -1 if it never committed; End the next that will be written.
	Committed, End int64
	// Lag is the number of records that wait, counted by offset.
	Lag int64
}

// Admin asks the cluster and creates topics. It keeps one connection, made at the first question.
type Admin struct {
	cfg Config

	// connecting is held while connecting, which takes its time; mu never is.
	connecting sync.Mutex
	client     sarama.Client
	admin      sarama.ClusterAdmin

	mu     sync.Mutex
	closed bool
	// probe is the Reachable under way, shared by all who ask meanwhile.
	probe *probe
	calls sync.WaitGroup
}

type probe struct {
	done chan struct{}
	err  error
}

// NewAdmin checks cfg and returns an Admin that connects when it is first used.
func NewAdmin(cfg Config) (*Admin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka admin: %w", err)
	}
	return &Admin{cfg: cfg}, nil
}

// Lag returns how far group is behind in every partition of the topics that it has committed in, by topic and
// partition. In a partition without a commit all records wait.
func (a *Admin) Lag(ctx context.Context, group string) ([]PartitionLag, error) {
	var lags []PartitionLag
	err := a.do(ctx, "lag of "+group, func(client sarama.Client, admin sarama.ClusterAdmin) error {
		committed, err := admin.ListConsumerGroupOffsets(group, nil)
		if err == nil && !errors.Is(committed.Err, sarama.ErrNoError) {
			err = committed.Err
		}
		if errors.Is(err, sarama.ErrGroupIDNotFound) {
			return nil // it never committed
		} else if err != nil {
			return err
		}
		first, end := map[string]map[int32]int64{}, map[string]map[int32]int64{}
		for topic := range committed.Blocks {
			partitions, err := client.Partitions(topic)
			if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				continue // deleted since
			} else if err != nil {
				return err
			}
			first[topic], end[topic] = map[int32]int64{}, map[int32]int64{}
			for _, p := range partitions {
				first[topic][p], end[topic][p] = sarama.OffsetOldest, sarama.OffsetNewest
			}
		}
		if len(first) == 0 {
			return nil // a group that has committed nothing yet
		}
		firsts, err := admin.ListOffsets(first, nil)
		if err != nil {
			return err
		}
		ends, err := admin.ListOffsets(end, nil)
		if err != nil {
			return err
		}
		for topic, partitions := range ends {
			for p, newest := range partitions {
				oldest := firsts[topic][p]
				if oldest == nil {
					oldest = newest
				}
				for _, err := range []error{newest.Err, oldest.Err} {
					if err != nil && !errors.Is(err, sarama.ErrNoError) {
						return fmt.Errorf("%s/%d: %w", topic, p, err)
					}
				}
				lag := PartitionLag{Topic: topic, Partition: p, Committed: -1, End: newest.Offset}
				if block := committed.GetBlock(topic, p); block != nil {
					lag.Committed = block.Offset
				}
				lag.Lag = lag.End - max(lag.Committed, oldest.Offset)
				lags = append(lags, lag)
			}
		}
		return nil
	})
	slices.SortFunc(lags, func(x, y PartitionLag) int {
		if c := strings.Compare(x.Topic, y.Topic); c != 0 {
			return c
		}
		return int(x.Partition - y.Partition)
	})
	return lags, err
}

// Reachable returns nil if the cluster answers before ctx ends. Callers at the same time share one question.
func (a *Admin) Reachable(ctx context.Context) error {
	a.mu.Lock()
	p := a.probe
	if p == nil {
		p = &probe{done: make(chan struct{})}
		a.probe = p
		go func() {
			p.err = a.do(context.Background(), "reach Kafka", func(client sarama.Client, _ sarama.ClusterAdmin) error {
				return client.RefreshMetadata()
			})
			a.mu.Lock()
			a.probe = nil
			a.mu.Unlock()
			close(p.done)
		}()
	}
	a.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fault.Unavailablef("reach Kafka: no answer yet: %w", ctx.Err())
	}
}

// do runs ask with a connection and stops waiting when ctx ends; sarama's calls take no context.
func (a *Admin) do(ctx context.Context, operation string, ask func(sarama.Client, sarama.ClusterAdmin) error) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return fault.Unavailablef("%s: the admin client is closed", operation)
	}
	a.calls.Add(1)
	a.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		defer a.calls.Done()
		client, admin, err := a.connect()
		if err == nil {
			err = ask(client, admin)
		}
		result <- err
	}()
	select {
	case err := <-result:
		return classify(operation, err)
	case <-ctx.Done():
		return fault.Unavailablef("%s: %w", operation, ctx.Err())
	}
}

func (a *Admin) connect() (sarama.Client, sarama.ClusterAdmin, error) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if a.admin != nil {
		return a.client, a.admin, nil
	}
	s := a.cfg.Sarama()
	// Whoever asks wants to know now.
	s.Metadata.Retry.Max = 0
	s.Metadata.Timeout = 3 * time.Second
	s.Net.ReadTimeout = 5 * time.Second
	client, err := sarama.NewClient(a.cfg.Brokers, s)
	if err != nil {
		return nil, nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	a.client, a.admin = client, admin
	return client, admin, nil
}

// Close disconnects after the questions under way, which are bounded.
func (a *Admin) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	a.calls.Wait()
	if a.admin == nil {
		return nil
	}
	return classify("close the Kafka admin client", a.admin.Close()) // closes the client too
}
