package client

import (
	"context"
	"fmt"
	"net/url"
	"regexp"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
)

// By is who asks for a verb on a dead letter, and why.
type By struct{ Actor, Reason string }

// maxLetters is the most dead letters that a list gives at once.
const maxLetters = 500

var nextPage = regexp.MustCompile(`<([^>]*)>;\s*rel="next"`)

// Letters lists a service's dead letters, the last failed first; an empty state means all.
func (s *System) Letters(ctx context.Context, service, state string) ([]letters.Letter, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, err
	}
	limit := maxLetters
	params := &letters.ListDeadLettersParams{Limit: &limit}
	if state != "" {
		wanted := letters.State(state)
		params.State = &wanted
	}
	var all []letters.Letter
	for {
		a, err := c.ListDeadLettersWithResponse(ctx, params)
		if err != nil {
			return nil, fmt.Errorf("list the dead letters of %s: %w", service, err)
		}
		page, err := answered("list the dead letters of "+service, a.JSON200, a.HTTPResponse, a.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		next := nextPage.FindStringSubmatch(a.HTTPResponse.Header.Get("Link"))
		if next == nil {
			return all, nil
		}
		u, err := url.Parse(next[1])
		if err != nil {
			return nil, fmt.Errorf("list the dead letters of %s: next page: %w", service, err)
		}
		cursor := u.Query().Get("cursor")
		params.Cursor = &cursor
	}
}

// Letter reads one dead letter with its headers and body.
func (s *System) Letter(ctx context.Context, service, id string) (letters.LetterDetail, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.LetterDetail{}, err
	}
	a, err := c.GetDeadLetterWithResponse(ctx, id)
	if err != nil {
		return letters.LetterDetail{}, fmt.Errorf("read dead letter %s of %s: %w", id, service, err)
	}
	return answered("read dead letter "+id+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

// Redrive hands a dead letter back to its group.
func (s *System) Redrive(ctx context.Context, service, id string, by By) (letters.Letter, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.Letter{}, err
	}
	a, err := c.RedriveDeadLetterWithResponse(ctx, id, letters.RedriveDeadLetterJSONRequestBody(by))
	if err != nil {
		return letters.Letter{}, fmt.Errorf("redrive dead letter %s of %s: %w", id, service, err)
	}
	return answered("redrive dead letter "+id+" of "+service, a.JSON202, a.HTTPResponse, a.Body)
}

// Discard gives a dead letter up for good.
func (s *System) Discard(ctx context.Context, service, id string, by By) (letters.Letter, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.Letter{}, err
	}
	a, err := c.DiscardDeadLetterWithResponse(ctx, id, letters.DiscardDeadLetterJSONRequestBody(by))
	if err != nil {
		return letters.Letter{}, fmt.Errorf("discard dead letter %s of %s: %w", id, service, err)
	}
	return answered("discard dead letter "+id+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

func (s *System) lettersOf(service string) (*letters.ClientWithResponses, error) {
	c, ok := s.letters[service]
	if !ok {
		return nil, fmt.Errorf("there is no service %q, must be one of %v", service, Services())
	}
	return c, nil
}
