package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/saga"
)

// none is the state of what a participant has never heard of.
const none = "none"

// held are the states that a participant may have an order in, by the state that the order has ended in.
var held = map[orderapi.OrderState]struct{ stock, payment, parcel []string }{
	orderapi.OrderStateConfirmed: {[]string{"shipped"}, []string{"charged"}, []string{"arranged"}},
	orderapi.OrderStateCancelled: {
		[]string{none, "rejected", "released"}, []string{none, "declined", "voided", "refunded"}, []string{none, "refused", "voided", "cancelled"},
	},
}

// outside is what provider and carrier may have under the order's key, by the state that the participant has it in. What is
// voided may have been refused outside, in a call whose answer was lost.
var outside = struct{ charge, parcel map[string][]string }{
	charge: map[string][]string{
		none: {none}, "charged": {"charged"}, "declined": {"declined"}, "refunded": {"refunded"}, "voided": {"called_off", "declined"},
	},
	parcel: map[string][]string{
		none: {none}, "arranged": {"arranged"}, "refused": {"refused"}, "cancelled": {"cancelled"}, "voided": {"called_off", "refused"},
	},
}

// participants: what each holds of an order is what the order's end says, and what is outside agrees.
func (c *court) participants() (string, []string) {
	var wrong list
	for id, o := range sorted(c.Orders) {
		reservation, payment, shipment := c.Reservations[id], c.Payments[id], c.Shipments[id]
		charge, parcel := c.Charges[id], c.Parcels[id]
		must := func(what, state string, allowed []string) {
			if state = cmp.Or(state, none); !slices.Contains(allowed, state) {
				wrong.add("order %s is %s: its %s is %s, must be %s", id, o.State, what, state, strings.Join(allowed, " or "))
			}
		}
		same := func(what string, got, want any) {
			if got != want {
				wrong.add("order %s is %s: %s is %v, must be %v", id, o.State, what, got, want)
			}
		}
		if allowed, ended := held[o.State]; ended {
			must("reservation", reservation.State, allowed.stock)
			must("payment", payment.State, allowed.payment)
			must("shipment", shipment.State, allowed.parcel)
		}
		must("charge at the provider", charge.State, outside.charge[cmp.Or(payment.State, none)])
		must("parcel at the carrier", parcel.State, outside.parcel[cmp.Or(shipment.State, none)])

		if reservation.State == "shipped" {
			same("what was shipped", pieces(reservation.Lines), pieces(ordered(o)))
		}
		if payment.State == "charged" || payment.State == "refunded" {
			total := events.Money(o.Total)
			same("what was charged", payment.Amount, total)
			same("what the provider charged", charge.Amount, total)
			// A charge that only the provider knew of when it was refunded has no reference here.
			if payment.State == "charged" || payment.Reference != "" {
				same("the reference of the charge", payment.Reference, charge.Reference)
			}
			same("the reference of the refund", payment.RefundReference, charge.RefundReference)
			refunded := int64(0)
			if payment.State == "refunded" {
				refunded = total.Amount
			}
			same("what was refunded", payment.Refunded, refunded)
		}
		if shipment.State == "arranged" || shipment.State == "cancelled" {
			same("the tracking number", shipment.TrackingNumber, parcel.TrackingNumber)
		}
		tracking := ""
		if o.TrackingNumber != nil {
			tracking = *o.TrackingNumber
		}
		if shipment.State == "arranged" || tracking != "" {
			same("the order's tracking number", tracking, shipment.TrackingNumber)
		}
		c.steps(id, &wrong)
	}
	unknown(c, &wrong, "a reservation", c.Reservations)
	unknown(c, &wrong, "a payment", c.Payments)
	unknown(c, &wrong, "a charge at the provider", c.Charges)
	unknown(c, &wrong, "a shipment", c.Shipments)
	unknown(c, &wrong, "a parcel at the carrier", c.Parcels)
	return fmt.Sprintf("%d reservations, %d payments, %d shipments of %d orders", len(c.Reservations), len(c.Payments), len(c.Shipments), len(c.Orders)), wrong
}

// unknown names what is held for orders that do not exist.
func unknown[V any](c *court, wrong *list, what string, all map[string]V) {
	for id := range sorted(all) {
		if _, is := c.Orders[id]; !is {
			wrong.add("there is %s for order %s, which does not exist", what, id)
		}
	}
}

// left are the states in which a step of an ended saga leaves its participant, by the step's own; an operator who has an
// undo skipped takes over what is there.
var left = map[string]map[saga.StepStatus][]string{
	stepReserve: {saga.StepSkipped: {none}, saga.StepDone: {"shipped"}, saga.StepFailed: {"rejected"}, saga.StepUndone: {"released"}},
	stepCharge: {
		saga.StepSkipped: {none}, saga.StepDone: {"charged"}, saga.StepFailed: {"declined"}, saga.StepUndone: {"refunded", "voided", "declined"},
	},
	stepShip: {
		saga.StepSkipped: {none}, saga.StepDone: {"arranged"}, saga.StepFailed: {"refused"}, saga.StepUndone: {"cancelled", "voided", "refused"},
	},
}

// steps holds what the saga says of its steps against the participants.
func (c *court) steps(id string, wrong *list) {
	states := map[string]string{stepReserve: c.Reservations[id].State, stepCharge: c.Payments[id].State, stepShip: c.Shipments[id].State}
	for _, step := range c.Sagas[id].Steps {
		allowed, judged := left[step.Name][step.Status]
		if state := cmp.Or(states[step.Name], none); judged && !slices.Contains(allowed, state) {
			wrong.add("order %s: step %s of its saga is %s, and the participant says %s, must be %s",
				id, step.Name, step.Status, state, strings.Join(allowed, " or "))
		}
	}
}

func ordered(o orderapi.Order) []events.Line {
	lines := make([]events.Line, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = events.Line{SKU: l.SKU, Quantity: l.Quantity}
	}
	return lines
}

// pieces writes lines in one order: "2 MUG-BLUE, 1 SPOON-SET".
func pieces(lines []events.Line) string {
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = fmt.Sprintf("%d %s", l.Quantity, l.SKU)
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// names writes a set.
func names(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }
