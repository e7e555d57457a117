package deadletter

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
)

// Metrics are how many letters are not settled, by group and state: dead_letters{group,state}. All replicas show the same.
type Metrics struct {
	store   *Store
	letters *prometheus.GaugeVec
}

// NewMetrics registers the metrics, which are empty until Update.
func NewMetrics(s *Store, reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{store: s, letters: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dead_letters", Help: "Dead letters that are neither redriven nor discarded, of all replicas together.",
	}, []string{"group", "state"})}
	if err := reg.Register(m.letters); err != nil {
		return nil, fmt.Errorf("dead-letter metrics: %w", err)
	}
	return m, nil
}

// Update counts.
func (m *Metrics) Update(ctx context.Context) error {
	rows, err := m.store.db.QueryContext(ctx, `SELECT consumer_group, state, COUNT(*) FROM dead_letters WHERE settled_at IS NULL GROUP BY consumer_group, state`)
	if err != nil {
		return fmt.Errorf("count dead letters: %w", err)
	}
	defer rows.Close()
	m.letters.Reset()
	for rows.Next() {
		var group, state string
		var n float64
		if err := rows.Scan(&group, &state, &n); err != nil {
			return fmt.Errorf("count dead letters: %w", err)
		}
		m.letters.WithLabelValues(group, state).Set(n)
	}
	return database.Classify(rows.Err())
}
