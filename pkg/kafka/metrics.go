package kafka

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// parkingMetrics show how near the partitions of a subscriber are to SubscriberConfig.ParkedMax. They are read from memory,
// and each replica shows the partitions that it has.
type parkingMetrics struct {
	subscriber    *Subscriber
	full, waiting *prometheus.Desc
}

// ParkingCollector returns the gauges of how much is parked of each partition that the subscriber has, for registration.
// Without a Parking there are none.
func (s *Subscriber) ParkingCollector() prometheus.Collector {
	labels, group := []string{"topic", "partition"}, prometheus.Labels{"group": s.cfg.Group}
	return &parkingMetrics{
		subscriber: s,
		full: prometheus.NewDesc("parked_partition_full_ratio",
			"How many messages of a partition are parked, as a share of how many may be: at 1 the next ones wait in memory.", labels, group),
		waiting: prometheus.NewDesc("parked_partition_waiting",
			"Messages that keep their places in memory because no more of their partition may be parked.", labels, group),
	}
}

// Describe implements prometheus.Collector.
func (m *parkingMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.full
	ch <- m.waiting
}

// Collect implements prometheus.Collector.
func (m *parkingMetrics) Collect(ch chan<- prometheus.Metric) {
	m.subscriber.mu.Lock()
	defer m.subscriber.mu.Unlock()
	for c := range m.subscriber.parking {
		c.mu.Lock()
		p := c.parks
		full, waiting := float64(p.stored)/float64(p.most), float64(p.waiting())
		c.mu.Unlock()
		partition := strconv.Itoa(int(p.partition))
		ch <- prometheus.MustNewConstMetric(m.full, prometheus.GaugeValue, full, p.topic, partition)
		ch <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, waiting, p.topic, partition)
	}
}
