package demo

import (
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/books"
)

// Report is everything that a run showed. Times are seconds.
type Report struct {
	// OK says that everything was as expected; Failures name what was not.
	OK       bool     `json:"ok"`
	Failures []string `json:"failures,omitempty"`
	Seed     uint64   `json:"seed"`
	// Ready is how long the system took to be ready, Took the whole run.
	Ready float64 `json:"ready_seconds"`
	Took  float64 `json:"took_seconds"`

	Scenarios   []Scenario  `json:"scenarios"`
	Load        Load        `json:"load"`
	Crashes     []Crash     `json:"crashes"`
	Poison      Poison      `json:"poison"`
	Duplicate   Duplicate   `json:"duplicate"`
	Live        Live        `json:"live"`
	DeadLetters []Letter    `json:"dead_letters"`
	Books       books.Audit `json:"books"`
}

// Scenario is one branch of the saga.
type Scenario struct {
	Name     string   `json:"name"`
	Expected string   `json:"expected"`
	Happened string   `json:"happened"`
	OK       bool     `json:"ok"`
	OrderID  string   `json:"order_id,omitempty"`
	Took     float64  `json:"took_seconds"`
	Timeline []Moment `json:"timeline,omitempty"`
	// Wrong names what was not as expected.
	Wrong []string `json:"wrong,omitempty"`
}

// Moment is one step of a timeline, so many seconds after its beginning.
type Moment struct {
	After float64 `json:"after_seconds"`
	Text  string  `json:"text"`
}

// Load is what became of the mixed orders.
type Load struct {
	Orders int `json:"orders"`
	// Placed and Ended are when the last one was, since the first was sent.
	Placed    float64        `json:"placed_seconds"`
	Ended     float64        `json:"ended_seconds"`
	Confirmed int            `json:"confirmed"`
	Cancelled map[string]int `json:"cancelled"`
	// TimedOut are those cancelled by a deadline while a service was down.
	TimedOut int `json:"timed_out"`
}

// Crash is a service or a server that was killed in the middle of the load.
type Crash struct {
	Name string `json:"name"`
	// After is how many orders had been placed by then; Down is how long it was away.
	After int     `json:"after_orders"`
	Down  float64 `json:"down_seconds"`
	OK    bool    `json:"ok"`
}

// Poison is the record that is no message.
type Poison struct {
	Record  string `json:"record"`
	Service string `json:"service"`
	Error   string `json:"error"`
	OK      bool   `json:"ok"`
}

// Duplicate are the records that were delivered twice.
type Duplicate struct {
	OrderID string   `json:"order_id"`
	Records []string `json:"records"`
	// Counted are the duplicates that each service has counted.
	Counted map[string]int `json:"counted"`
	OK      bool           `json:"ok"`
}

// Live are the notifications of one customer, as they came over the stream.
type Live struct {
	Customer string   `json:"customer"`
	Heard    []Moment `json:"heard"`
	// Breaks is how often the connection was broken and resumed.
	Breaks int  `json:"breaks"`
	OK     bool `json:"ok"`
}

// Letter is a dead letter and what was done with it.
type Letter struct {
	Service   string `json:"service"`
	ID        string `json:"id"`
	OrderID   string `json:"order_id,omitempty"`
	Type      string `json:"type,omitempty"`
	ErrorType string `json:"error_type"`
	Error     string `json:"error"`
	State     string `json:"state"`
}

func letter(service string, l letters.Letter) Letter {
	shown := Letter{Service: service, ID: l.ID, Type: l.EventType, ErrorType: string(l.ErrorType), Error: l.Error, State: string(l.State)}
	if l.Key != nil {
		shown.OrderID = *l.Key
	}
	return shown
}
