package bench

import (
	"fmt"
	"strconv"
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
	// WarmupSeconds come before the window of WindowSeconds.
	WarmupSeconds float64  `json:"warmup_s"`
	WindowSeconds float64  `json:"window_s"`
	Runs          []Result `json:"runs"`
}

// Load is what is put on the system: so many orders in flight, or so many a second, whichever is not zero.
type Load struct {
	InFlight int     `json:"in_flight,omitempty"`
	Rate     float64 `json:"rate_per_s,omitempty"`
}

func (l Load) String() string {
	if l.InFlight > 0 {
		return fmt.Sprintf("%d in flight", l.InFlight)
	}
	return l.amount() + "/s"
}

// amount is the number without what it is of.
func (l Load) amount() string {
	if l.InFlight > 0 {
		return strconv.Itoa(l.InFlight)
	}
	return strconv.FormatFloat(l.Rate, 'f', -1, 64)
}

// Result is one load and what came of it: figures, or what was wrong.
type Result struct {
	Load    Load     `json:"load"`
	Wrong   []string `json:"wrong,omitempty"`
	Figures *Figures `json:"figures,omitempty"`
}

// Figures are of a load after which the books balanced.
type Figures struct {
	// PerSecond is how many orders ended in the window, a second.
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
