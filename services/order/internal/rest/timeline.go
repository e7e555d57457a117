package rest

import (
	"context"
	"fmt"
	"time"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/saga"
	"github.com/orderflow/orderflow/services/order/internal/rules"
)

// GetTimeline tells an order's story as far as this service knows it: the request, and what its saga has written down.
// Who among the operators did what, and why, is not for customers.
func (s *Server) GetTimeline(ctx context.Context, r orderapi.GetTimelineRequestObject) (orderapi.GetTimelineResponseObject, error) {
	o, err := s.get(ctx, r.OrderID)
	if err != nil {
		return nil, err
	}
	state, err := s.Sagas.Get(ctx, s.App.DB, r.OrderID)
	if err != nil {
		return nil, err
	}
	if httpapi.CallerFrom(ctx).Kind == httpapi.Customer {
		for i := range state.Journal {
			if e := &state.Journal[i]; e.Kind == saga.EntryOperator {
				e.Actor, e.Reason = "", ""
			}
		}
	}
	return orderapi.GetTimeline200JSONResponse{
		OrderID: o.ID, State: orderapi.OrderState(o.State), Status: orderapi.SagaStatus(state.Status),
		Failure: failure(state.Reason, state.Detail), StartedAt: state.StartedAt, EndedAt: instant(state.EndedAt),
		Steps: steps(state), Entries: append([]orderapi.TimelineEntry{requested(o)}, entries(state)...),
	}, nil
}

func requested(o rules.Order) orderapi.TimelineEntry {
	pieces := 0
	for _, l := range o.Lines {
		pieces += l.Quantity
	}
	return orderapi.TimelineEntry{
		At: o.CreatedAt, Kind: "request", Cause: optional("a request of customer " + o.CustomerID),
		Text: fmt.Sprintf("order placed: %d pieces, %d.%02d %s", pieces, o.Total.Amount/100, o.Total.Amount%100, o.Total.Currency),
	}
}

func steps(state saga.State) []orderapi.TimelineStep {
	all := make([]orderapi.TimelineStep, len(state.Steps))
	for i, step := range state.Steps {
		all[i] = orderapi.TimelineStep{
			Name: step.Name, Status: orderapi.StepStatus(step.Status), Attempts: step.Attempts, UndoAttempts: step.UndoAttempts,
			StartedAt: instant(step.StartedAt), EndedAt: instant(step.EndedAt), UndoStartedAt: instant(step.UndoStartedAt),
			UndoEndedAt: instant(step.UndoEndedAt), Deadline: instant(step.Deadline), Failure: failure(step.Reason, step.Detail),
		}
		if step.Status == saga.StepUndoSkipped {
			all[i].Status, all[i].UndoSkipped = orderapi.StepStatusSkipped, optional(true)
		}
	}
	return all
}

// entries are the journal's. What a saga does in one turn has one instant, and comes of the first thing that it wrote.
func entries(state saga.State) []orderapi.TimelineEntry {
	all := make([]orderapi.TimelineEntry, len(state.Journal))
	var turn time.Time
	var cause string
	for i, e := range state.Journal {
		all[i] = orderapi.TimelineEntry{
			At: e.At, Kind: string(e.Kind), Step: optional(e.Step), Text: e.String(), MessageID: optional(e.MessageID),
		}
		if !e.At.Equal(turn) {
			turn, cause = e.At, e.String()
			all[i].Cause = optional(began(e))
		} else {
			all[i].Cause = optional(cause)
		}
	}
	return all
}

// began is what a turn of a saga came of, by the first entry of it.
func began(e saga.Entry) string {
	switch {
	case e.MessageID != "":
		return "message " + e.MessageID
	case e.Kind == saga.EntryDeadlinePassed:
		return "no answer in time"
	case e.Kind == saga.EntryOperator && e.Actor != "":
		return "operator " + e.Actor
	case e.Kind == saga.EntryStarted:
		return "the order was placed"
	}
	return ""
}
