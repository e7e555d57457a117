package app

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
)

var lagLabels = []string{"consumergroup", "topic", "partition"}

// The names are kafka_exporter's where it has the metric.
var (
	lagDesc = prometheus.NewDesc("kafka_consumergroup_lag",
		"Offsets between a consumer group's commit and the end of the partition, as kafka-consumer-groups counts.", lagLabels, nil)
	ageDesc = prometheus.NewDesc("kafka_consumergroup_oldest_age_seconds",
		"For how long the oldest record that waits has stood in the partition, by its timestamp: 0 when none waits, missing when not known.", lagLabels, nil)
	membersDesc = prometheus.NewDesc("kafka_consumergroup_members", "Members of a consumer group.", []string{"consumergroup"}, nil)
)

// lagMetrics are those of the service's consumer group and of its dead-letter index. A scrape reads what the last round
// of update found and asks nobody; after a round that failed there is nothing to read, so that a broker that is away
// shows as metrics that are missing and not as ones that stand still. Every replica shows the same, of the one group.
type lagMetrics struct {
	admin  *kafka.Admin
	groups map[string][]string
	now    func() time.Time
	last   atomic.Pointer[[]kafka.GroupLag]
}

func newLagMetrics(admin *kafka.Admin, group string, topics []string, now func() time.Time) *lagMetrics {
	return &lagMetrics{admin: admin, now: now, groups: map[string][]string{
		group: topics, deadletter.IndexGroup(group): {deadletter.Topic(group)},
	}}
}

func (m *lagMetrics) update(ctx context.Context) error {
	lags, err := m.admin.Lag(ctx, m.groups)
	if err != nil {
		m.last.Store(nil)
		return err
	}
	m.last.Store(&lags)
	return nil
}

// Describe implements prometheus.Collector.
func (m *lagMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- lagDesc
	ch <- ageDesc
	ch <- membersDesc
}

// Collect implements prometheus.Collector.
func (m *lagMetrics) Collect(ch chan<- prometheus.Metric) {
	last := m.last.Load()
	if last == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, g := range *last {
		gauge(membersDesc, float64(g.Members), g.Group)
		for _, p := range g.Partitions {
			labels := []string{g.Group, p.Topic, strconv.Itoa(int(p.Partition))}
			gauge(lagDesc, float64(p.Lag), labels...)
			if age, known := p.Age(m.now()); known {
				gauge(ageDesc, age.Seconds(), labels...)
			}
		}
	}
}
