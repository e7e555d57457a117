package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"

	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/stack"
)

// memoryInterval is how often memory is looked at.
const memoryInterval = 500 * time.Millisecond

// driver is the component that this process is. On the embedded stack Kafka and Redis are in it.
const (
	driver         = "driver"
	driverEmbedded = "driver+kafka+redis"
)

// meter reads what a stack uses.
type meter struct {
	roots  map[string]int
	self   string
	client sarama.Client
	admin  sarama.ClusterAdmin
	// wal is the superuser's connection to PostgreSQL, nil when there is none.
	wal *pgx.Conn
}

// reading is what was used until an instant.
type reading struct {
	at    time.Time
	trees map[string]usage
	// busy is what all processes of the machine have used of its cores.
	busy time.Duration
	// wal is PostgreSQL's position in its write-ahead log, 0 where there is no PostgreSQL, and topics the size of the topics
	// on disk, in bytes.
	wal, topics int64
}

// meterOf reads what is up of a stack.
func meterOf(ctx context.Context, s *stack.Stack) (*meter, error) {
	if len(s.Servers()) == 0 {
		return newMeter(ctx, s.Brokers(), "", s.PIDs(), driverEmbedded)
	}
	return newMeter(ctx, s.Brokers(), postgresURL(s), s.PIDs(), driver)
}

// postgresURL is the superuser's way to PostgreSQL, empty where there is none.
func postgresURL(s *stack.Stack) string {
	for _, variable := range s.Env() {
		if url, ok := strings.CutPrefix(variable, "POSTGRES_URL="); ok {
			return url
		}
	}
	return ""
}

// newMeter reads the processes with all their descendants, and this one under the name self.
func newMeter(ctx context.Context, brokers []string, postgres string, processes map[string]int, self string) (_ *meter, err error) {
	m := &meter{roots: map[string]int{self: os.Getpid()}, self: self}
	maps.Copy(m.roots, processes)
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close(ctx))
		}
	}()
	if m.client, err = sarama.NewClient(brokers, kafka.Config{Brokers: brokers, ClientID: "orderflow-bench"}.Sarama()); err != nil {
		return nil, fmt.Errorf("connect to Kafka at %v: %w", brokers, err)
	}
	if m.admin, err = sarama.NewClusterAdminFromClient(m.client); err != nil {
		return nil, err
	}
	if postgres != "" {
		if m.wal, err = pgx.Connect(ctx, postgres); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *meter) close(ctx context.Context) error {
	var errs []error
	if m.wal != nil {
		errs = append(errs, m.wal.Close(ctx))
	}
	if m.client != nil {
		errs = append(errs, m.client.Close())
	}
	return errors.Join(errs...)
}

func (m *meter) read(ctx context.Context) (r reading, err error) {
	if r.topics, err = m.topicBytes(); err != nil {
		return r, fmt.Errorf("size of the topics: %w", err)
	}
	if m.wal != nil {
		if err := m.wal.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").Scan(&r.wal); err != nil {
			return r, fmt.Errorf("position of the write-ahead log: %w", err)
		}
	}
	r.at = time.Now()
	if r.busy, err = busy("/proc"); err != nil {
		return r, err
	}
	r.trees, err = measureTrees("/proc", m.roots, m.self)
	return r, err
}

// cpu is what each component has used until now.
func (m *meter) cpu() (map[string]time.Duration, error) {
	trees, err := measureTrees("/proc", m.roots, m.self)
	used := make(map[string]time.Duration, len(trees))
	for name, u := range trees {
		used[name] = u.cpu
	}
	return used, err
}

// topicBytes is the size of all replicas of all topics but Kafka's own, as brokers report it of their log folders.
func (m *meter) topicBytes() (int64, error) {
	var ids []int32
	for _, b := range m.client.Brokers() {
		ids = append(ids, b.ID())
	}
	brokers, err := m.admin.DescribeLogDirs(ids)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, dirs := range brokers {
		for _, dir := range dirs {
			for _, topic := range dir.Topics {
				if strings.HasPrefix(topic.Topic, "__") {
					continue
				}
				for _, p := range topic.Partitions {
					sum += p.Size
				}
			}
		}
	}
	return sum, nil
}

// watch samples the memory of each component until stop is called, which returns the most of each in bytes.
func (m *meter) watch() (stop func() (map[string]int64, error)) {
	peaks := map[string]int64{}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	var failed error
	look := func() {
		trees, err := measureTrees("/proc", m.roots, m.self)
		if err != nil {
			failed = err
		}
		for name, u := range trees {
			peaks[name] = max(peaks[name], u.memory)
		}
	}
	wg.Go(func() {
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				look()
				return
			case <-ticker.C:
				look()
			}
		}
	})
	return func() (map[string]int64, error) {
		close(quit)
		wg.Wait()
		return peaks, failed
	}
}
