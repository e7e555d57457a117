// Package shipments handles the commands that move parcels.
//
// Each has two parts: the carrier is called before the transaction, under a key made from the order's id, so that a
// command that comes again (redelivered, redriven, or sent anew after a crash between the two parts) moves one parcel;
// then the effect and its event are written in one transaction.
package shipments

import (
	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/services/shipping/internal/carrier"
)

// Shipments has the handlers.
type Shipments struct {
	DB      *database.DB
	Carrier carrier.Carrier
	// NewID names shipments.
	NewID func() string
}

// Listen adds the handlers to c.
func (s *Shipments) Listen(c *consumer.Consumer) {
	consumer.OnCall(c, s.arrange)
	consumer.OnCall(c, s.cancel)
}

func arrangeKey(orderID string) string { return "arrange-" + orderID }

func cancelKey(orderID string) string { return "cancel-" + orderID }
