package saga

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
)

// metrics are counted once a saga and deadline, whatever the number of replicas: they follow committed decisions.
type metrics struct {
	fired    *prometheus.CounterVec
	finished *prometheus.CounterVec
	stuck    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	waiting  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		fired: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_deadlines_fired_total", Help: "Deadlines of steps that passed without an answer, by command awaited.",
		}, []string{"definition", "command"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_finished_total", Help: "Sagas that ended, completed or compensated.",
		}, []string{"definition", "status"}),
		stuck: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "saga_compensation_failed_total", Help: "Times that a saga's compensation was given up: somebody must look.",
		}, []string{"definition"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "saga_duration_seconds", Help: "From start to end of a saga.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
		}, []string{"definition", "status"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sagas_compensation_failed", Help: "Sagas that are compensation_failed now, and wait for an operator. All replicas show the same.",
		}, []string{"definition"}),
	}
	if reg != nil {
		reg.MustRegister(m.fired, m.finished, m.stuck, m.duration, m.waiting)
	}
	return m
}

func (m *metrics) observe(before, after State, in Input) {
	if _, ok := in.(DeadlinePassed); ok {
		command := Do
		if before.Status != Running {
			command = Undo
		}
		m.fired.WithLabelValues(after.Definition, string(command)).Inc()
	}
	if before.Status == after.Status {
		return
	}
	switch {
	case after.Status.Terminal():
		status := string(after.Status)
		m.finished.WithLabelValues(after.Definition, status).Inc()
		m.duration.WithLabelValues(after.Definition, status).Observe(after.EndedAt.Sub(after.StartedAt).Seconds())
	case after.Status == CompensationFailed:
		m.stuck.WithLabelValues(after.Definition).Inc()
	}
}

// Observe counts the sagas that wait for an operator, for the gauge sagas_compensation_failed. After a count that failed
// the gauge is missing until one succeeds, so that it never stands still.
func (st *Store) Observe(ctx context.Context, db *database.DB) error {
	counts, err := countFailed(ctx, db)
	if err != nil {
		st.metrics.waiting.Reset()
		return fmt.Errorf("count sagas: %w", database.Classify(err))
	}
	for p := range st.defs {
		st.metrics.waiting.WithLabelValues(p.name).Set(float64(counts[p.name]))
	}
	return nil
}

func countFailed(ctx context.Context, db *database.DB) (counts map[string]int64, err error) {
	rows, err := db.QueryContext(ctx, `SELECT definition, COUNT(*) FROM sagas WHERE status = $1 GROUP BY definition`, string(CompensationFailed))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	counts = map[string]int64{}
	for rows.Next() {
		var definition string
		var n int64
		if err := rows.Scan(&definition, &n); err != nil {
			return nil, err
		}
		counts[definition] = n
	}
	return counts, rows.Err()
}
