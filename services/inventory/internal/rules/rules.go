// Package rules is what stock is and what may become of it. It knows no database, broker or clock.
package rules

import (
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/api/events"
)

// Stock is how many pieces there are of one product. Received = Available + Reserved + Shipped, always.
type Stock struct {
	SKU       string
	Received  int64
	Available int64
	Reserved  int64
	Shipped   int64
}

// The moves of n pieces.

// ToReserved takes them out of what is available.
func (s Stock) ToReserved(n int64) Stock {
	s.Available, s.Reserved = s.Available-n, s.Reserved+n
	return s
}

// ToAvailable gives reserved ones back.
func (s Stock) ToAvailable(n int64) Stock {
	s.Available, s.Reserved = s.Available+n, s.Reserved-n
	return s
}

// ToShipped takes reserved ones out of the house.
func (s Stock) ToShipped(n int64) Stock {
	s.Reserved, s.Shipped = s.Reserved-n, s.Shipped+n
	return s
}

// FromReceiving takes new ones in.
func (s Stock) FromReceiving(n int64) Stock {
	s.Received, s.Available = s.Received+n, s.Available+n
	return s
}

// MaxStock bounds what can be received of one product.
const MaxStock = 1_000_000_000

// State of a reservation.
type State string

// A reservation is made or refused once and for all; a reserved one is released or shipped. Released without ever
// having been reserved is a tombstone: a reserve command that comes later is refused.
const (
	Reserved State = "reserved"
	Rejected State = "rejected"
	Released State = "released"
	Shipped  State = "shipped"
)

// Reservation is what one order holds.
type Reservation struct {
	OrderID   string
	State     State
	Lines     []events.Line
	Shortages []events.Shortage
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Combine adds up lines of one SKU and sorts by SKU.
func Combine(lines []events.Line) []events.Line {
	sorted := slices.Clone(lines)
	slices.SortFunc(sorted, func(a, b events.Line) int { return strings.Compare(a.SKU, b.SKU) })
	var combined []events.Line
	for _, l := range sorted {
		if n := len(combined); n > 0 && combined[n-1].SKU == l.SKU {
			combined[n-1].Quantity += l.Quantity
			continue
		}
		combined = append(combined, l)
	}
	return combined
}

// Reserve decides on an order's lines, all or nothing, by the stock there is.
func Reserve(orderID string, lines []events.Line, stock map[string]Stock, at time.Time) Reservation {
	r := Reservation{OrderID: orderID, State: Reserved, Lines: Combine(lines), CreatedAt: at.UTC(), UpdatedAt: at.UTC()}
	for _, l := range r.Lines {
		if available := stock[l.SKU].Available; available < int64(l.Quantity) {
			r.Shortages = append(r.Shortages, events.Shortage{SKU: l.SKU, Requested: l.Quantity, Available: available})
		}
	}
	if len(r.Shortages) > 0 {
		r.State, r.Lines = Rejected, nil
	}
	return r
}
