package payments

import (
	"context"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
	"github.com/orderflow/orderflow/services/payment/internal/store"
)

// refund gives back whatever was charged for the order, and leaves a tombstone where that is nothing (invariant 5).
// The provider is asked also when there is no payment here: it may have charged without its answer having come through.
func (p *Payments) refund(ctx context.Context, _ event.Event, cmd events.PaymentRefund) (consumer.HandlerFunc, error) {
	known, err := p.Known.Do(ctx, cmd.OrderID)
	if err != nil {
		return nil, err
	}
	var reversal rules.Reversal
	if known == nil || known.State != rules.Refunded {
		made, err := p.Provider.Refund(ctx, provider.RefundRequest{Key: refundKey(cmd.OrderID), ChargeKey: chargeKey(cmd.OrderID)})
		if err != nil {
			return nil, err
		}
		reversal = rules.Reversal(made)
	}
	return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
		known, err := store.Load(ctx, tx.Tx, cmd.OrderID)
		if err != nil {
			return err
		}
		payment, err := rules.Refund(known, cmd, reversal, p.NewID(), tx.Now())
		if err != nil {
			return err
		}
		if known == nil || *known != payment {
			store.Put(tx.Tx, payment)
		}
		_, err = tx.Publish(ctx, e.Key, events.PaymentRefunded{
			OrderID: payment.OrderID, CustomerID: payment.CustomerID, ProviderReference: payment.RefundReference,
			Amount: events.Money{Amount: payment.Refunded, Currency: payment.Amount.Currency},
		})
		return err
	}, nil
}
