package client

import (
	"context"
	"fmt"

	parked "github.com/orderflow/orderflow/pkg/parking/rest"
)

// maxParked is the most parked keys that a list gives at once.
const maxParked = 500

// ListParked lists a service's parked keys that match, those that wait longest first, but no more than most. It tells
// whether there are more.
func (s *System) ListParked(ctx context.Context, service string, f parked.ListParkedParams, most int) (all []parked.Key, more bool, err error) {
	c, err := s.parkedOf(service)
	if err != nil {
		return nil, false, err
	}
	what := "list the parked keys of " + service
	return upTo(most, maxParked, func(limit int, cursor *string) ([]parked.Key, *string, error) {
		f.Limit, f.Cursor = &limit, cursor
		a, err := c.ListParkedWithResponse(ctx, &f)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", what, err)
		}
		page, err := answered(what, a.JSON200, a.HTTPResponse, a.Body)
		if err != nil {
			return nil, nil, err
		}
		next, err := nextCursor(a.HTTPResponse)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", what, err)
		}
		return page.Items, next, nil
	})
}

// Parked reads the key of a message that waits at a service, with its first messages. id is any of them.
func (s *System) Parked(ctx context.Context, service, id string) (parked.KeyDetail, error) {
	c, err := s.parkedOf(service)
	if err != nil {
		return parked.KeyDetail{}, err
	}
	a, err := c.GetParkedWithResponse(ctx, id)
	if err != nil {
		return parked.KeyDetail{}, fmt.Errorf("read parked message %s of %s: %w", id, service, err)
	}
	return answered("read parked message "+id+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

func (s *System) parkedOf(service string) (*parked.ClientWithResponses, error) {
	c, ok := s.parked[service]
	if !ok {
		return nil, fmt.Errorf("there is no service %q, must be one of %v", service, Services())
	}
	return c, nil
}
