package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
	"github.com/orderflow/orderflow/pkg/outbox"
	"github.com/orderflow/orderflow/pkg/saga"
)

// sagasKind names the cursors of the list of sagas; a cursor is the last saga's place in it.
const sagasKind = "sagas/1"

// ListSagas lists sagas for an operator, the oldest first.
func (s *Server) ListSagas(ctx context.Context, r orderapi.ListSagasRequestObject) (orderapi.ListSagasResponseObject, error) {
	if err := httpapi.RequireStaff(ctx); err != nil {
		return nil, err
	}
	limit := value(r.Params.Limit, defaultLimit)
	f := saga.Filter{
		Step: value(r.Params.Step, ""), Reason: value(r.Params.Error, ""), Limit: limit + 1, // one more tells whether there is a next page
	}
	if r.Params.StartedBefore != nil {
		f.StartedBefore = *r.Params.StartedBefore
	}
	if r.Params.State != nil {
		for _, state := range *r.Params.State {
			if !slices.Contains(f.Statuses, saga.Status(state)) {
				f.Statuses = append(f.Statuses, saga.Status(state))
			}
		}
	}
	if r.Params.Cursor != nil {
		var err error
		if f.After, err = httpapi.DecodeCursor[saga.Position](sagasKind, *r.Params.Cursor); err != nil {
			return nil, err
		}
	}
	states, err := saga.List(ctx, s.App.DB, f)
	if err != nil {
		return nil, err
	}
	var next, link *string
	if len(states) > limit {
		states = states[:limit]
		last := states[limit-1]
		cursor, err := httpapi.EncodeCursor(sagasKind, saga.Position{StartedAt: last.StartedAt, ID: last.ID})
		if err != nil {
			return nil, err
		}
		next, link = &cursor, optional(httpapi.NextLink(ctx, cursor))
	}
	items := make([]orderapi.Saga, len(states))
	for i, state := range states {
		items[i] = sagaBody(state)
	}
	return orderapi.ListSagas200JSONResponse{
		Body:    orderapi.SagaPage{Items: items, NextCursor: next},
		Headers: orderapi.ListSagas200ResponseHeaders{Link: link},
	}, nil
}

// GetSaga shows a saga, and what an operator may do with it now.
func (s *Server) GetSaga(ctx context.Context, r orderapi.GetSagaRequestObject) (orderapi.GetSagaResponseObject, error) {
	if err := httpapi.RequireStaff(ctx); err != nil {
		return nil, err
	}
	state, err := s.Sagas.Get(ctx, s.App.DB, r.SagaID)
	if err != nil {
		return nil, sagaProblem(err, r.SagaID, state)
	}
	offers, err := s.Sagas.Offers(state, s.App.Events.Now())
	if err != nil {
		return nil, err
	}
	done, left := progress(state)
	detail := orderapi.SagaDetail{
		Saga: sagaBody(state), Done: done, Left: left, May: make([]orderapi.SagaVerb, len(offers)),
		Steps: steps(state), Entries: entries(state),
	}
	for i, o := range offers {
		detail.May[i] = orderapi.SagaVerb{
			Verb: orderapi.SagaVerbVerb(o.Verb), Step: optional(o.Step), Sends: make([]orderapi.SagaCommand, len(o.Commands)), State: orderapi.SagaStatus(o.Status),
		}
		for k, c := range o.Commands {
			detail.May[i].Sends[k] = orderapi.SagaCommand{Command: orderapi.SagaCommandKind(c.Kind), Step: c.Step}
		}
	}
	return orderapi.GetSaga200JSONResponse{Body: detail, Headers: orderapi.GetSaga200ResponseHeaders{ETag: httpapi.ETag(state.Version)}}, nil
}

// RetrySaga sends the command whose answer is awaited once more.
func (s *Server) RetrySaga(ctx context.Context, r orderapi.RetrySagaRequestObject) (orderapi.RetrySagaResponseObject, error) {
	state, err := s.intervene(ctx, r.SagaID, r.Params.IfMatch, saga.Intervention{Verb: saga.VerbRetry, Actor: r.Body.Actor, Reason: r.Body.Reason})
	return orderapi.RetrySaga200JSONResponse{
		Body: sagaBody(state), Headers: orderapi.RetrySaga200ResponseHeaders{ETag: httpapi.ETag(state.Version)},
	}, err
}

// SkipSagaStep goes on without undoing a step.
func (s *Server) SkipSagaStep(ctx context.Context, r orderapi.SkipSagaStepRequestObject) (orderapi.SkipSagaStepResponseObject, error) {
	state, err := s.intervene(ctx, r.SagaID, r.Params.IfMatch, saga.Intervention{
		Verb: saga.VerbSkip, Step: r.Body.Step, Actor: r.Body.Actor, Reason: r.Body.Reason,
	})
	return orderapi.SkipSagaStep200JSONResponse{
		Body: sagaBody(state), Headers: orderapi.SkipSagaStep200ResponseHeaders{ETag: httpapi.ETag(state.Version)},
	}, err
}

// CompensateSaga has everything undone that was done.
func (s *Server) CompensateSaga(ctx context.Context, r orderapi.CompensateSagaRequestObject) (orderapi.CompensateSagaResponseObject, error) {
	state, err := s.intervene(ctx, r.SagaID, r.Params.IfMatch, saga.Intervention{Verb: saga.VerbCompensate, Actor: r.Body.Actor, Reason: r.Body.Reason})
	return orderapi.CompensateSaga200JSONResponse{
		Body: sagaBody(state), Headers: orderapi.CompensateSaga200ResponseHeaders{ETag: httpapi.ETag(state.Version)},
	}, err
}

func (s *Server) intervene(ctx context.Context, id string, ifMatch *string, in saga.Intervention) (saga.State, error) {
	if err := httpapi.RequireStaff(ctx); err != nil {
		return saga.State{}, err
	}
	if ifMatch == nil {
		return saga.State{}, httpapi.RequireIfMatch("", 0)
	}
	var err error
	if in.Version, err = strconv.ParseInt(strings.Trim(*ifMatch, `"`), 10, 64); err != nil { // the contract saw to its form
		return saga.State{}, err
	}
	ctx = observe.With(ctx, "order_id", id)
	var state saga.State
	err = s.App.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		var err error
		state, err = s.Fulfilment.Intervene(ctx, tx, id, in)
		return err
	})
	return state, sagaProblem(err, id, state)
}

func sagaProblem(err error, id string, state saga.State) error {
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return httpapi.NotFound("there is no saga %s", id)
	case errors.Is(err, saga.ErrStale):
		return httpapi.NewProblem(http.StatusPreconditionFailed, "%s: look at it again, and name its version then", err).
			WithHeader("ETag", httpapi.ETag(state.Version))
	case errors.Is(err, saga.ErrNoStep):
		return httpapi.Unprocessable("the saga has no such step", httpapi.FieldError{In: "body", Path: "/step", Detail: err.Error()})
	case errors.Is(err, saga.ErrRefused):
		return httpapi.Conflict("%s", err)
	}
	return err
}

func sagaBody(state saga.State) orderapi.Saga {
	b := orderapi.Saga{
		SagaID: state.ID, Definition: state.Definition, DefinitionVersion: state.DefinitionVersion, Version: state.Version,
		State: orderapi.SagaStatus(state.Status), Failure: failure(state.Reason, state.Detail), Trouble: optional(state.Trouble),
		StartedAt: state.StartedAt, UpdatedAt: state.UpdatedAt, EndedAt: instant(state.EndedAt),
	}
	if step, waits := state.Active(); waits {
		b.WaitsFor = &orderapi.SagaWait{
			Step: step.Name, Command: orderapi.SagaCommandKindDo, Attempt: step.Attempts, Since: step.StartedAt, Until: instant(step.Deadline),
		}
		if step.Status == saga.StepUndoing {
			b.WaitsFor.Command, b.WaitsFor.Attempt, b.WaitsFor.Since = orderapi.SagaCommandKindUndo, step.UndoAttempts, step.UndoStartedAt
		}
	}
	return b
}

// progress is what participants have done, in the order in which they answered, and what is left, in the order in which
// it will be asked for.
func progress(state saga.State) (done, left []orderapi.SagaCommand) {
	done, left = []orderapi.SagaCommand{}, []orderapi.SagaCommand{}
	command := func(kind orderapi.SagaCommandKind, step saga.StepState) orderapi.SagaCommand {
		return orderapi.SagaCommand{Command: kind, Step: step.Name}
	}
	for _, step := range state.Steps {
		if step.Outcome == saga.Done {
			c := command(orderapi.SagaCommandKindDo, step)
			c.At = &step.EndedAt
			done = append(done, c)
		}
		if step.Status == saga.StepUndone {
			c := command(orderapi.SagaCommandKindUndo, step)
			c.At = &step.UndoEndedAt
			done = append(done, c)
		}
		if step.Status == saga.StepDoing || step.Status == saga.StepPending {
			left = append(left, command(orderapi.SagaCommandKindDo, step))
		}
	}
	slices.SortStableFunc(done, func(a, b orderapi.SagaCommand) int { return a.At.Compare(*b.At) })
	if state.Status == saga.Compensating || state.Status == saga.CompensationFailed {
		for _, step := range slices.Backward(state.Steps) {
			if step.Status == saga.StepUndoing || step.Status == saga.StepDone {
				left = append(left, command(orderapi.SagaCommandKindUndo, step))
			}
		}
	}
	return done, left
}

// value is what an optional parameter says, or what holds without it.
func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
