package saga

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted once a saga and deadline, whatever the number of replicas: they follow committed decisions.
type metrics struct {
	fired    *prometheus.CounterVec
	finished *prometheus.CounterVec
	stuck    *prometheus.CounterVec
	duration *prometheus.HistogramVec
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
	}
	if reg != nil {
		reg.MustRegister(m.fired, m.finished, m.stuck, m.duration)
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
