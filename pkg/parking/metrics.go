package parking

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxCounted bounds what a scrape costs: more messages are shown as this many.
const maxCounted = 100_000

// scrapeTimeout bounds how long a scrape waits for the database.
const scrapeTimeout = 2 * time.Second

// metrics are read from the table when they are asked for. Every replica shows the same, of the one group.
type metrics struct {
	store                  *Store
	messages, keys, blocks *prometheus.Desc
}

// Collector returns the gauges of what is parked, for registration.
func (s *Store) Collector() prometheus.Collector {
	group := prometheus.Labels{"group": s.group}
	return &metrics{
		store:    s,
		messages: prometheus.NewDesc("parked_messages", "Messages that wait in the database behind one that failed, counted up to 100,000.", nil, group),
		keys:     prometheus.NewDesc("parked_keys", "Keys that these messages have, in all partitions.", nil, group),
		blocks:   prometheus.NewDesc("parked_blocked_keys", "Keys that wait for a dead letter to be redriven or discarded.", nil, group),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.messages
	ch <- m.keys
	ch <- m.blocks
}

// Collect implements prometheus.Collector. While the database is away the gauges are missing.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var messages, keys, blocks float64
	err := m.store.db.QueryRowContext(ctx, `SELECT COUNT(*), COUNT(DISTINCT record_key), COUNT(DISTINCT CASE WHEN blocked_at IS NOT NULL THEN record_key END)
		FROM (SELECT record_key, blocked_at FROM parked WHERE consumer = $1 LIMIT $2) AS counted`, m.store.group, maxCounted).Scan(&messages, &keys, &blocks)
	if err != nil {
		return
	}
	for desc, value := range map[*prometheus.Desc]float64{m.messages: messages, m.keys: keys, m.blocks: blocks} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
}
