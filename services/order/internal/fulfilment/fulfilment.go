package fulfilment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/services/order/internal/rules"
	"github.com/orderflow/orderflow/services/order/internal/store"
)

// ErrTooLate: the order is confirmed and cannot be cancelled any more.
var ErrTooLate = errors.New("shipping has been arranged: the order is confirmed and cannot be cancelled")

// Fulfilment runs the sagas of orders.
type Fulfilment struct {
	plan   *saga.Definition
	sagas  *saga.Store
	logger *slog.Logger
}

// New returns the sagas of a plan.
func New(plan *saga.Definition, sagas *saga.Store, logger *slog.Logger) *Fulfilment {
	return &Fulfilment{plan: plan, sagas: sagas, logger: logger}
}

// Start begins the saga of an order that was inserted in tx: it says that the order was created and sends the first
// command.
func (f *Fulfilment) Start(ctx context.Context, tx *outbox.Tx, o rules.Order) error {
	if _, err := tx.Publish(ctx, o.ID, created(o)); err != nil {
		return err
	}
	_, commands, err := f.sagas.Start(ctx, tx.Tx, f.plan, o.ID, nil, tx.Now())
	if err != nil {
		return err
	}
	return send(ctx, tx, o, commands)
}

// Cancel undoes an order for its customer. It returns the order as it then stands, or ErrTooLate. Cancelling an order
// that is cancelling or cancelled changes nothing. guard may refuse on the order's present version.
func (f *Fulfilment) Cancel(ctx context.Context, tx *outbox.Tx, id, detail string, guard func(rules.Order) error) (rules.Order, error) {
	o, err := store.Load(ctx, tx.Tx, id)
	if err != nil {
		return o, err
	}
	if err := guard(o); err != nil {
		return o, err
	}
	o, err = f.advance(ctx, tx, o, saga.Cancel{At: tx.Now(), Reason: events.ReasonCancelledByCustomer, Detail: detail})
	if errors.Is(err, saga.ErrTooLate) {
		return o, ErrTooLate
	}
	return o, err
}

// Intervene has an operator's word followed, see saga.Intervention. It returns the saga as it then stands, also beside a
// refusal.
func (f *Fulfilment) Intervene(ctx context.Context, tx *outbox.Tx, id string, in saga.Intervention) (saga.State, error) {
	o, err := store.Load(ctx, tx.Tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return saga.State{}, saga.ErrNotFound
	}
	if err != nil {
		return saga.State{}, err
	}
	in.At = tx.Now()
	_, refused := f.advance(ctx, tx, o, in)
	state, err := f.sagas.Load(ctx, tx.Tx, id)
	if refused != nil {
		err = refused
	}
	return state, err
}

// Deadline looks at one saga whose deadline seems to have passed at an instant.
func (f *Fulfilment) Deadline(ctx context.Context, tx *outbox.Tx, id string, at time.Time) error {
	o, err := store.Load(ctx, tx.Tx, id)
	if err != nil {
		return err
	}
	state, err := f.sagas.Load(ctx, tx.Tx, id)
	if err != nil {
		return err
	}
	due, is := state.Due(at)
	if !is {
		return nil // answered, or fired by another replica, in the meantime
	}
	due.At = tx.Now()
	ctx = event.WithCause(ctx, event.Cause{
		ID: fmt.Sprintf("deadline:%s:%s", due.Step, state.NextDeadline().Format(time.RFC3339Nano)), CorrelationID: id,
	})
	_, err = f.advance(ctx, tx, o, due)
	return err
}

// Listen adds the handlers for everything that participants answer. While an answer is a dead letter the order's later ones
// wait for it: the saga would decide on them without knowing it.
func (f *Fulfilment) Listen(c *consumer.Consumer) {
	c.Prepare(f.readAhead)
	on[events.InventoryReserved](f, c)
	on[events.InventoryRejected](f, c)
	on[events.InventoryReleased](f, c)
	on[events.PaymentCharged](f, c)
	on[events.PaymentDeclined](f, c)
	on[events.PaymentRefunded](f, c)
	on[events.ShippingArranged](f, c)
	on[events.ShippingFailed](f, c)
	on[events.ShippingCancelled](f, c)
}

// readAhead reads the orders and sagas of a batch in one statement each, in one round trip; they are written so too.
func (f *Fulfilment) readAhead(ctx context.Context, tx *outbox.Tx, batch []event.Event) error {
	ids := event.Keys(batch)
	if err := store.ReadAhead(ctx, tx.Tx, ids); err != nil {
		return err
	}
	return f.sagas.ReadAhead(ctx, tx.Tx, ids)
}

func on[T event.Body](f *Fulfilment, c *consumer.Consumer) {
	consumer.On(c, func(ctx context.Context, tx *outbox.Tx, e event.Event, body T) error {
		o, err := store.Load(ctx, tx.Tx, e.Key)
		if err != nil {
			// Answers follow commands, and commands are sent in the transaction that makes the order: an answer
			// about an order that is not there is not about one of ours.
			return fmt.Errorf("%s about order %s: %w", e.Type, e.Key, err)
		}
		in := reply(body)
		in.At, in.MessageID = tx.Now(), e.ID
		if arranged, is := any(body).(events.ShippingArranged); is && o.State == rules.Pending {
			o.Ship(arranged.Carrier, arranged.TrackingNumber)
		}
		_, err = f.advance(ctx, tx, o, in)
		return err
	}, consumer.Blocks)
}

// advance takes one input to the saga of an order whose row is locked: saga, order and messages change together.
func (f *Fulfilment) advance(ctx context.Context, tx *outbox.Tx, o rules.Order, in saga.Input) (rules.Order, error) {
	ctx = observe.With(ctx, "order_id", o.ID, "saga_id", o.ID)
	state, commands, err := f.sagas.Apply(ctx, tx.Tx, o.ID, in)
	if err != nil {
		return o, err
	}
	version := o.Version
	why := events.NewReason(state.Reason, state.Detail)
	switch state.Status {
	case saga.Completed:
		if !o.Final() {
			o.Confirm(tx.Now())
			_, err = tx.Publish(ctx, o.ID, confirmed(o))
		}
	case saga.Compensated:
		if !o.Final() {
			o.Cancel(why, tx.Now())
			_, err = tx.Publish(ctx, o.ID, cancelled(o))
		}
	case saga.Compensating, saga.CompensationFailed:
		o.Undo(why, tx.Now())
		if state.Status == saga.CompensationFailed && state.Trouble != "" {
			f.logger.ErrorContext(ctx, "a compensation is not answered, somebody must look", "trouble", state.Trouble)
		}
	}
	if err != nil {
		return o, err
	}
	if o.Version != version {
		tx.AfterCommit(func() {
			f.logger.DebugContext(ctx, "order moved", "state", o.State, "saga", state.Status, "reason", state.Reason)
		})
		store.Update(tx.Tx, o)
	}
	return o, send(ctx, tx, o, commands)
}

func send(ctx context.Context, tx *outbox.Tx, o rules.Order, commands []saga.Command) error {
	for _, c := range commands {
		if _, err := tx.Publish(ctx, o.ID, command(o, c)); err != nil {
			return fmt.Errorf("%s for order %s: %w", c, o.ID, err)
		}
	}
	return nil
}

func created(o rules.Order) events.OrderCreated {
	lines := make([]events.PricedLine, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = events.PricedLine{SKU: l.SKU, Quantity: l.Quantity, UnitPrice: l.Price}
	}
	return events.OrderCreated{
		OrderID: o.ID, CustomerID: o.CustomerID, Version: o.Version, Lines: lines, Total: o.Total,
		ShippingAddress: o.ShippingAddress, CreatedAt: o.CreatedAt,
	}
}

func confirmed(o rules.Order) events.OrderConfirmed {
	return events.OrderConfirmed{
		OrderID: o.ID, CustomerID: o.CustomerID, Version: o.Version, Total: o.Total,
		Carrier: o.Carrier, TrackingNumber: o.TrackingNumber, ConfirmedAt: o.UpdatedAt,
	}
}

func cancelled(o rules.Order) events.OrderCancelled {
	return events.OrderCancelled{
		OrderID: o.ID, CustomerID: o.CustomerID, Version: o.Version, Total: o.Total,
		Reason: *o.Failure, CancelledAt: o.UpdatedAt,
	}
}
