package client

import (
	"context"
	"fmt"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
)

// Sagas lists the sagas that a filter selects, the oldest first, but no more than most. It tells whether there are more.
func (s *System) Sagas(ctx context.Context, f orderapi.ListSagasParams, most int) (all []orderapi.Saga, more bool, err error) {
	return upTo(most, pageSize, func(limit int, cursor *string) ([]orderapi.Saga, *string, error) {
		f.Limit, f.Cursor = &limit, cursor
		a, err := s.Orders.ListSagasWithResponse(ctx, &f)
		if err != nil {
			return nil, nil, fmt.Errorf("list sagas: %w", err)
		}
		page, err := answered("list sagas", a.JSON200, a.HTTPResponse, a.Body)
		return page.Items, page.NextCursor, err
	})
}

// Saga reads a saga, and what an operator may do with it.
func (s *System) Saga(ctx context.Context, id string) (orderapi.SagaDetail, error) {
	a, err := s.Orders.GetSagaWithResponse(ctx, id)
	if err != nil {
		return orderapi.SagaDetail{}, fmt.Errorf("read saga %s: %w", id, err)
	}
	return answered("read saga "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// RetrySaga sends the command that a saga waits for once more. version is the one that was seen.
func (s *System) RetrySaga(ctx context.Context, id string, version int64, by By) (orderapi.Saga, error) {
	a, err := s.Orders.RetrySagaWithResponse(ctx, id, &orderapi.RetrySagaParams{IfMatch: etag(version)}, orderapi.RetrySagaJSONRequestBody(by))
	if err != nil {
		return orderapi.Saga{}, fmt.Errorf("retry saga %s: %w", id, err)
	}
	return answered("retry saga "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// SkipSagaStep has a saga go on without undoing a step.
func (s *System) SkipSagaStep(ctx context.Context, id, step string, version int64, by By) (orderapi.Saga, error) {
	a, err := s.Orders.SkipSagaStepWithResponse(ctx, id, &orderapi.SkipSagaStepParams{IfMatch: etag(version)},
		orderapi.SkipSagaStepJSONRequestBody{Actor: by.Actor, Reason: by.Reason, Step: step})
	if err != nil {
		return orderapi.Saga{}, fmt.Errorf("skip step %s of saga %s: %w", step, id, err)
	}
	return answered("skip step "+step+" of saga "+id, a.JSON200, a.HTTPResponse, a.Body)
}

// CompensateSaga has everything undone that a saga did.
func (s *System) CompensateSaga(ctx context.Context, id string, version int64, by By) (orderapi.Saga, error) {
	a, err := s.Orders.CompensateSagaWithResponse(ctx, id, &orderapi.CompensateSagaParams{IfMatch: etag(version)}, orderapi.CompensateSagaJSONRequestBody(by))
	if err != nil {
		return orderapi.Saga{}, fmt.Errorf("compensate saga %s: %w", id, err)
	}
	return answered("compensate saga "+id, a.JSON200, a.HTTPResponse, a.Body)
}

func etag(version int64) *string {
	tag := fmt.Sprintf(`"%d"`, version)
	return &tag
}
