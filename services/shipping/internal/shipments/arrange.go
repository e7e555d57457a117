package shipments

import (
	"context"
	"errors"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
	"github.com/orderflow/orderflow/services/shipping/internal/store"
)

// arrange answers an arrange command. The carrier is asked once there is no answer for the order yet, under the order's
// key; a second command for an order answers what the first did.
func (s *Shipments) arrange(ctx context.Context, _ event.Event, cmd events.ShippingArrange) (consumer.HandlerFunc, error) {
	known, err := s.Known.Do(ctx, cmd.OrderID)
	if err != nil {
		return nil, err
	}
	var outcome rules.Outcome
	if known == nil {
		if outcome, err = s.ask(ctx, cmd); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
		known, err := store.Load(ctx, tx.Tx, cmd.OrderID)
		if err != nil {
			return err
		}
		shipment, err := rules.Arrange(known, cmd, outcome, s.NewID(), tx.Now())
		if err != nil {
			return err
		}
		if known == nil {
			store.Put(tx.Tx, shipment)
		}
		_, err = tx.Publish(ctx, e.Key, arrangeAnswer(shipment))
		return err
	}, nil
}

// ask has the carrier arrange.
func (s *Shipments) ask(ctx context.Context, cmd events.ShippingArrange) (rules.Outcome, error) {
	parcel, err := s.Carrier.Arrange(ctx, carrier.ArrangeRequest{
		Key: arrangeKey(cmd.OrderID), Address: cmd.Address, Lines: cmd.Lines,
	})
	var refused *carrier.Refused
	switch {
	case errors.As(err, &refused):
		return rules.Outcome{State: rules.Refused, Failure: events.NewReason(refused.Code, refused.Detail)}, nil
	case errors.Is(err, carrier.ErrCalledOff):
		// The cancellation is with the carrier already, and its own command will follow.
		return rules.Outcome{State: rules.Voided}, nil
	case err != nil:
		return rules.Outcome{}, err
	}
	return rules.Outcome{State: rules.Arranged, Carrier: parcel.Carrier, TrackingNumber: parcel.TrackingNumber}, nil
}

func arrangeAnswer(s rules.Shipment) event.Body {
	switch s.State {
	case rules.Arranged:
		return events.ShippingArranged{
			OrderID: s.OrderID, CustomerID: s.CustomerID, ShipmentID: s.ID, Carrier: s.Carrier, TrackingNumber: s.TrackingNumber,
		}
	case rules.Refused:
		return events.ShippingFailed{OrderID: s.OrderID, CustomerID: s.CustomerID, Reason: s.Failure}
	default:
		return events.ShippingFailed{
			OrderID: s.OrderID, CustomerID: s.CustomerID,
			Reason: events.NewReason(rules.ReasonCancelled, "the parcel was called off before"),
		}
	}
}
