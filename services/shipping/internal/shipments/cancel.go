package shipments

import (
	"context"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
	"github.com/orderflow/orderflow/services/shipping/internal/rules"
	"github.com/orderflow/orderflow/services/shipping/internal/store"
)

// cancel calls back whatever was arranged for the order, and leaves a tombstone where that is nothing (invariant 5).
// The carrier is asked also when there is no shipment here: it may have arranged one without its answer having come
// through.
func (s *Shipments) cancel(ctx context.Context, _ event.Event, cmd events.ShippingCancel) (consumer.HandlerFunc, error) {
	known, err := s.Known.Do(ctx, cmd.OrderID)
	if err != nil {
		return nil, err
	}
	var recall rules.Recall
	if known == nil || known.State != rules.Cancelled {
		was, err := s.Carrier.Cancel(ctx, carrier.CancelRequest{Key: cancelKey(cmd.OrderID), ArrangeKey: arrangeKey(cmd.OrderID)})
		if err != nil {
			return nil, err
		}
		recall = rules.Recall(was)
	}
	return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
		known, err := store.Load(ctx, tx.Tx, cmd.OrderID)
		if err != nil {
			return err
		}
		shipment, err := rules.Cancel(known, cmd, recall, s.NewID(), tx.Now())
		if err != nil {
			return err
		}
		if known == nil || *known != shipment {
			store.Put(tx.Tx, shipment)
		}
		answer := events.ShippingCancelled{OrderID: shipment.OrderID, CustomerID: shipment.CustomerID}
		if shipment.State == rules.Cancelled {
			answer.ShipmentID = shipment.ID
		}
		_, err = tx.Publish(ctx, e.Key, answer)
		return err
	}, nil
}
