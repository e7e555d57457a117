package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orderflow/orderflow/pkg/database"
)

// maxCounted bounds what a scrape costs: a longer outbox is shown as this long.
const maxCounted = 100_000

// scrapeTimeout bounds how long a scrape waits for the database.
const scrapeTimeout = 2 * time.Second

// metrics holds the relay's counters, and reads the gauges from the table when they are asked for: a relay that is
// stuck could not keep them up to date. Every replica shows the same gauges, of the one outbox they share.
type metrics struct {
	db   *database.DB
	now  func() time.Time
	sent prometheus.Counter
	errs prometheus.Counter
}

var (
	waitingDesc = prometheus.NewDesc("outbox_waiting", "Rows in the outbox that are not sent yet, counted up to 100,000.", nil, nil)
	oldestDesc  = prometheus.NewDesc("outbox_oldest_age_seconds", "Age of the oldest row in the outbox, 0 when it is empty.", nil, nil)
)

func newMetrics(db *database.DB, now func() time.Time, reg prometheus.Registerer) *metrics {
	m := &metrics{
		db: db, now: now,
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "outbox_sent_total", Help: "Events from the outbox that the broker acknowledged.",
		}),
		errs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "outbox_send_errors_total", Help: "Attempts to send an event from the outbox that failed.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- waitingDesc
	ch <- oldestDesc
	m.sent.Describe(ch)
	m.errs.Describe(ch)
}

// Collect implements prometheus.Collector. While the database is away the gauges are missing.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.sent.Collect(ch)
	m.errs.Collect(ch)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var waiting int64
	err := m.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM outbox LIMIT $1) AS counted`, maxCounted).Scan(&waiting)
	if err != nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(waiting))

	oldest, err := oldest(ctx, m.db)
	if err != nil {
		return
	}
	var age time.Duration
	if !oldest.IsZero() {
		age = max(0, m.now().Sub(oldest))
	}
	ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age.Seconds())
}

// Oldest is when the oldest event that is not sent yet was put into the outbox, by any replica; zero when all are sent.
func (o *Outbox) Oldest(ctx context.Context) (time.Time, error) { return oldest(ctx, o.db) }

func oldest(ctx context.Context, db *database.DB) (at time.Time, err error) {
	err = db.QueryRowContext(ctx, `SELECT created_at FROM outbox ORDER BY seq LIMIT 1`).Scan(&at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return at, fmt.Errorf("oldest event of the outbox: %w", database.Classify(err))
	}
	return at.UTC(), nil
}
