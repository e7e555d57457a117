// Package stock handles the messages that move stock.
package stock

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/inventory/internal/rules"
	"github.com/orderflow/orderflow/services/inventory/internal/store"
)

// reasonCancelled is why a reserve command is refused that comes after the order's release.
const reasonCancelled = "cancelled"

// Listen adds the handlers.
func Listen(c *consumer.Consumer) {
	c.Prepare(readAhead)
	consumer.On(c, reserve)
	consumer.On(c, release)
	consumer.On(c, ship)
}

// readAhead reads what the orders of a batch hold and the stock that they are about, in one statement each; both are written
// so too.
func readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	var lines []events.Line
	for _, e := range batch {
		if e.Type == events.TypeInventoryReserve {
			var cmd events.InventoryReserve
			if err := json.Unmarshal(e.Data, &cmd); err != nil {
				continue // its handler says so
			}
			lines = append(lines, cmd.Lines...)
		}
	}
	return store.ReadAhead(ctx, tx.Tx, event.Keys(batch), lines)
}

// reserve answers a reserve command. A second command for an order answers what the first did.
func reserve(ctx context.Context, tx *outbox.Tx, e event.Event, cmd events.InventoryReserve) error {
	r, err := store.LoadReservation(ctx, tx.Tx, cmd.OrderID)
	if errors.Is(err, store.ErrNotFound) {
		lines := rules.Combine(cmd.Lines)
		available, lockErr := store.Lock(ctx, tx.Tx, lines)
		if lockErr != nil {
			return lockErr
		}
		r, err = rules.Reserve(cmd.OrderID, lines, available, tx.Now()), nil
		if err := errors.Join(store.Move(ctx, tx.Tx, r.Lines, rules.Stock.ToReserved), store.PutReservation(tx.Tx, r)); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	switch r.State {
	case rules.Reserved, rules.Shipped:
		_, err = tx.Publish(ctx, e.Key, events.InventoryReserved{OrderID: r.OrderID, Lines: r.Lines})
	case rules.Rejected:
		_, err = tx.Publish(ctx, e.Key, events.InventoryRejected{
			OrderID: r.OrderID, Shortages: r.Shortages,
			Reason: events.NewReason(events.ReasonOutOfStock, "not enough in stock"),
		})
	case rules.Released:
		_, err = tx.Publish(ctx, e.Key, events.InventoryRejected{
			OrderID: r.OrderID, Reason: events.NewReason(reasonCancelled, "the order was cancelled before its stock was reserved"),
		})
	}
	return err
}

// release gives back whatever the order holds, and leaves a tombstone where that is nothing (invariant 5).
func release(ctx context.Context, tx *outbox.Tx, e event.Event, cmd events.InventoryRelease) error {
	r, err := store.LoadReservation(ctx, tx.Tx, cmd.OrderID)
	if errors.Is(err, store.ErrNotFound) {
		r.CreatedAt = tx.Now()
	} else if err != nil {
		return err
	}
	if r.State == rules.Shipped {
		return fault.Permanentf("order %s: its stock has been shipped and cannot be released", cmd.OrderID)
	}
	if r.State == rules.Reserved {
		if err := store.Move(ctx, tx.Tx, r.Lines, rules.Stock.ToAvailable); err != nil {
			return err
		}
	}
	if r.State != rules.Released {
		r = rules.Reservation{OrderID: cmd.OrderID, State: rules.Released, Lines: r.Lines, CreatedAt: r.CreatedAt, UpdatedAt: tx.Now()}
		if err := store.PutReservation(tx.Tx, r); err != nil {
			return err
		}
	}
	_, err = tx.Publish(ctx, e.Key, events.InventoryReleased{OrderID: r.OrderID, Lines: r.Lines})
	return err
}

// ship follows a confirmed order: what it held has left the house.
func ship(ctx context.Context, tx *outbox.Tx, _ event.Event, o events.OrderConfirmed) error {
	r, err := store.LoadReservation(ctx, tx.Tx, o.OrderID)
	if errors.Is(err, store.ErrNotFound) {
		return fault.Permanentf("order %s was confirmed without a reservation", o.OrderID)
	}
	if err != nil {
		return err
	}
	switch r.State {
	case rules.Shipped:
		return nil
	case rules.Reserved:
		r.State, r.UpdatedAt = rules.Shipped, tx.Now()
		return errors.Join(store.Move(ctx, tx.Tx, r.Lines, rules.Stock.ToShipped), store.PutReservation(tx.Tx, r))
	default:
		return fault.Permanentf("order %s was confirmed while its reservation is %s", o.OrderID, r.State)
	}
}
