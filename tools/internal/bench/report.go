package bench

import (
	"strconv"
	"strings"
	"time"
)

// Report is what a benchmark found.
type Report struct {
	// OK says that every load was carried as it should be.
	OK      bool    `json:"ok"`
	Seed    uint64  `json:"seed"`
	Machine Machine `json:"machine"`
	// Stack is "embedded" or "native". Set are settings of the services other than their defaults, by service.
	Stack string              `json:"stack"`
	Set   map[string][]string `json:"set,omitempty"`
	// BreakInSeconds came before all loads, WarmupSeconds before the window of WindowSeconds of each.
	BreakInSeconds float64  `json:"break_in_s"`
	WarmupSeconds  float64  `json:"warmup_s"`
	WindowSeconds  float64  `json:"window_s"`
	Runs           []Result `json:"runs"`
	// Ratios hold our runs against the best of a rival's; Consumptions and Outboxes are of the rivals that take no orders.
	Ratios       []Ratio       `json:"ratios,omitempty"`
	Consumptions []Consumption `json:"subscribers,omitempty"`
	Outboxes     []Outbox      `json:"outboxes,omitempty"`
}

// Load is what is put on the system: so many orders in flight, so many a second, or as many as are accepted over so many
// connections, whichever is not zero.
type Load struct {
	InFlight int `json:"in_flight,omitempty"`
	// SagaAlone says that the services that no saga waits for stand still while InFlight orders are under way.
	SagaAlone bool    `json:"saga_alone,omitempty"`
	Rate      float64 `json:"rate_per_s,omitempty"`
	Accept    int     `json:"accept_connections,omitempty"`
}

func (l Load) String() string {
	switch {
	case l.SagaAlone:
		return "saga alone " + l.amount()
	case l.InFlight > 0:
		return l.amount() + " in flight"
	case l.Accept > 0:
		return "accept " + l.amount()
	default:
		return l.amount() + "/s"
	}
}

// amount is the number without what it is of.
func (l Load) amount() string {
	if l.Rate > 0 {
		return strconv.FormatFloat(l.Rate, 'f', -1, 64)
	}
	return strconv.Itoa(l.InFlight + l.Accept)
}

// bounds are how long the load runs before its window, and how long that is.
func (l Load) bounds(cfg Config) (warmup, window time.Duration) {
	if l.Accept > 0 {
		return acceptWarmup, acceptWindow
	}
	return cfg.Warmup, cfg.Window
}

// Result is one load and what came of it: figures, or what was wrong.
type Result struct {
	// Of is the rival that it was put on, empty for Orderflow.
	Of      string   `json:"of,omitempty"`
	Load    Load     `json:"load"`
	Wrong   []string `json:"wrong,omitempty"`
	Figures *Figures `json:"figures,omitempty"`
}

// title names the load and its rival.
func (r Result) title() string { return strings.TrimSpace(r.Of + " " + r.Load.String()) }

// row is the title without what the number is of.
func (r Result) row() string {
	if r.Load.SagaAlone {
		return r.title()
	}
	return strings.TrimSpace(r.Of + " " + r.Load.amount())
}

// Figures are of a load after which the books balanced.
type Figures struct {
	// PerSecond is how many orders ended in the window, a second; of an accepting load, how many were accepted in it.
	PerSecond float64 `json:"orders_per_s"`
	// EndToEnd is from the instant that an order was due until its end was read from Kafka, Accept until its request was
	// answered with 202. Both are of the orders that were due in the window and taken.
	EndToEnd Latency `json:"end_to_end"`
	Accept   Latency `json:"accept"`
	// Refused counts the answers 429 and 503 to orders that were due in the window; Errors all other answers but 202, and
	// requests without one.
	Refused int `json:"refused"`
	Errors  int `json:"errors"`
	// FirstError is an example of the Errors.
	FirstError string `json:"first_error,omitempty"`

	// Orders is how many were taken in the whole load, warm-up included: what the costs are divided by.
	Orders    int `json:"orders"`
	Confirmed int `json:"confirmed"`
	Cancelled int `json:"cancelled"`
	// Costs are by component.
	Components []Component `json:"components"`
	// CPUMillis is of all components together, an order.
	CPUMillis float64 `json:"cpu_ms_per_order"`
	// OthersPercent is what everything else on the machine used of its cores meanwhile: much of it, and the figures are
	// those of a smaller machine.
	OthersPercent float64 `json:"others_cpu_percent"`
	// WALBytes are written to PostgreSQL's log an order, nil where there is none; TopicBytes to the topics' logs, all replicas.
	WALBytes   *float64 `json:"wal_bytes_per_order,omitempty"`
	TopicBytes float64  `json:"topic_bytes_per_order"`
	// SettleSeconds is how long it took after the last order was due until everybody had caught up.
	SettleSeconds float64 `json:"settle_s"`
	// Books says what was audited after the load.
	Books []string `json:"books"`
}

// Component is a service, a server, or the driver.
type Component struct {
	Name string `json:"name"`
	// CPUMillis is user and system time an order.
	CPUMillis float64 `json:"cpu_ms_per_order"`
	// PeakMiB is the most memory that it held at one time.
	PeakMiB float64 `json:"peak_mib"`
}
