package payments

import (
	"context"
	"errors"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/services/payment/internal/provider"
	"github.com/orderflow/orderflow/services/payment/internal/rules"
	"github.com/orderflow/orderflow/services/payment/internal/store"
)

// charge answers a charge command. The provider is asked once there is no answer for the order yet, under the order's
// key; a second command for an order answers what the first did.
func (p *Payments) charge(ctx context.Context, _ event.Event, cmd events.PaymentCharge) (consumer.HandlerFunc, error) {
	known, err := p.Known.Do(ctx, cmd.OrderID)
	if err != nil {
		return nil, err
	}
	var outcome rules.Outcome
	if known == nil {
		if outcome, err = p.ask(ctx, cmd); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, tx *outbox.Tx, e event.Event) error {
		known, err := store.Load(ctx, tx.Tx, cmd.OrderID)
		if err != nil {
			return err
		}
		payment, err := rules.Charge(known, cmd, outcome, p.NewID(), tx.Now())
		if err != nil {
			return err
		}
		if known == nil {
			store.Put(tx.Tx, payment)
		}
		_, err = tx.Publish(ctx, e.Key, chargeAnswer(payment))
		return err
	}, nil
}

// ask has the provider charge.
func (p *Payments) ask(ctx context.Context, cmd events.PaymentCharge) (rules.Outcome, error) {
	made, err := p.Provider.Charge(ctx, provider.ChargeRequest{
		Key: chargeKey(cmd.OrderID), Amount: cmd.Amount, Method: cmd.PaymentMethod,
	})
	var declined *provider.Declined
	switch {
	case errors.As(err, &declined):
		return rules.Outcome{State: rules.Declined, Failure: events.NewReason(declined.Code, declined.Detail)}, nil
	case errors.Is(err, provider.ErrCalledOff):
		// The refund is with the provider already, and its own command will follow.
		return rules.Outcome{State: rules.Voided}, nil
	case err != nil:
		return rules.Outcome{}, err
	}
	return rules.Outcome{State: rules.Charged, Reference: made.Reference}, nil
}

func chargeAnswer(p rules.Payment) event.Body {
	switch p.State {
	case rules.Charged:
		return events.PaymentCharged{
			OrderID: p.OrderID, CustomerID: p.CustomerID, PaymentID: p.ID, Amount: p.Amount, ProviderReference: p.Reference,
		}
	case rules.Declined:
		return events.PaymentDeclined{OrderID: p.OrderID, CustomerID: p.CustomerID, Reason: p.Failure}
	default:
		return events.PaymentDeclined{
			OrderID: p.OrderID, CustomerID: p.CustomerID,
			Reason: events.NewReason(rules.ReasonCancelled, "the charge was called off before"),
		}
	}
}
