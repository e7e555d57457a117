package faults

import (
	"context"
	"fmt"
	"strings"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/tests/faults/audit"
	"github.com/orderflow/orderflow/tests/faults/inject"
)

// lied are the orders about which the provider or the carrier did not say the truth.
func (r *run) lied() map[string]bool {
	lied := map[string]bool{}
	if r.provider == nil {
		return lied
	}
	for key, e := range r.provider.Books() {
		if e.Lie != "" {
			_, order, _ := strings.Cut(key, "-")
			lied[order] = true
		}
	}
	return lied
}

// reconcile holds the services' books against what provider and carrier really did: that must name every order about which
// they lied, and no other. Against what they say everything held.
func (r *run) reconcile(ctx context.Context) error {
	lied := r.lied()
	if len(lied) == 0 {
		return nil
	}
	found, err := audit.Check(ctx, r.sources(inject.Entry.Really), r.load.posts(), ambiguous)
	if err != nil {
		return err
	}
	r.result.Lies = len(lied)
	named := fmt.Sprint(found.Err())
	for id := range lied {
		if !strings.Contains(named, id) {
			r.wrong("order %s: somebody lied about it, and the true books do not name it", id)
		}
	}
	for _, o := range r.load.orders {
		if o.id != "" && !lied[o.id] && strings.Contains(named, o.id) {
			r.wrong("order %s: nobody lied about it, and the true books name it", o.id)
		}
	}
	return nil
}

// charges and parcels are what the provider and the carrier did, in their words or really.
func (r *run) charges(as func(inject.Entry) inject.Entry) (all []audit.Charge) {
	for _, e := range r.provider.Books() {
		e = as(e)
		if e.Kind != "charge" {
			continue
		}
		c := audit.Charge{Key: e.Key, State: state(e, "charged", "declined", "refunded"), Amount: events.Money{Amount: e.Amount, Currency: e.Currency}}
		if e.Done {
			c.Reference = "ch_" + e.Key
		}
		if e.Done && e.Undone {
			c.RefundReference = "re_" + e.Key
		}
		all = append(all, c)
	}
	return all
}

func (r *run) parcels(as func(inject.Entry) inject.Entry) (all []audit.Parcel) {
	for _, e := range r.provider.Books() {
		e = as(e)
		if e.Kind != "parcel" {
			continue
		}
		p := audit.Parcel{Key: e.Key, State: state(e, "arranged", "refused", "cancelled")}
		if e.Done {
			p.TrackingNumber = "FF-" + e.Key
		}
		all = append(all, p)
	}
	return all
}

// said is an entry as it stands.
func said(e inject.Entry) inject.Entry { return e }

// state is an entry's in the words of the sandboxes.
func state(e inject.Entry, done, refused, undone string) string {
	switch {
	case e.Refusal != "":
		return refused
	case e.Done && e.Undone:
		return undone
	case e.Done:
		return done
	case e.Undone:
		return "called_off"
	}
	return "open"
}
