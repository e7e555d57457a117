package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
)

// By is who asks for a verb on a dead letter, and why.
type By struct{ Actor, Reason string }

// maxLetters is the most dead letters that a list gives at once.
const maxLetters = 500

// Letters lists all of a service's dead letters in a state, the last failed first; an empty state means all.
func (s *System) Letters(ctx context.Context, service, state string) ([]letters.Letter, error) {
	var f letters.ListDeadLettersParams
	if state != "" {
		wanted := letters.StateFilter(state)
		f.State = &wanted
	}
	all, _, err := s.ListLetters(ctx, service, f, math.MaxInt)
	return all, err
}

// ListLetters lists a service's dead letters that match, the last failed first, but no more than most. It tells whether
// there are more.
func (s *System) ListLetters(ctx context.Context, service string, f letters.ListDeadLettersParams, most int) (all []letters.Letter, more bool, err error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, false, err
	}
	what := "list the dead letters of " + service
	return upTo(most, maxLetters, func(limit int, cursor *string) ([]letters.Letter, *string, error) {
		f.Limit, f.Cursor = &limit, cursor
		a, err := c.ListDeadLettersWithResponse(ctx, &f)
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

// Causes counts a service's dead letters that match by cause, the most frequent first.
func (s *System) Causes(ctx context.Context, service string, f letters.ListCausesParams) ([]letters.Cause, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, err
	}
	a, err := c.ListCausesWithResponse(ctx, &f)
	if err != nil {
		return nil, fmt.Errorf("count the causes of %s: %w", service, err)
	}
	found, err := answered("count the causes of "+service, a.JSON200, a.HTTPResponse, a.Body)
	return found.Items, err
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

// Edit puts another body in the place of a dead letter's.
func (s *System) Edit(ctx context.Context, service, id string, value []byte, by By) (letters.LetterDetail, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.LetterDetail{}, err
	}
	encoded := base64.StdEncoding.EncodeToString(value)
	a, err := c.EditDeadLetterWithResponse(ctx, id, letters.Edit{Actor: by.Actor, Reason: by.Reason, ValueBase64: &encoded})
	if err != nil {
		return letters.LetterDetail{}, fmt.Errorf("edit dead letter %s of %s: %w", id, service, err)
	}
	return answered("edit dead letter "+id+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

// Audit lists who did what at a service, the last first, but no more than limit, which is 1 to 500; letter and job are empty
// or the only ones. It tells whether there are more.
func (s *System) Audit(ctx context.Context, service, letter, job string, limit int) (all []letters.AuditEntry, more bool, err error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, false, err
	}
	f := letters.ListAuditParams{Limit: &limit}
	if letter != "" {
		f.Letter = &letter
	}
	if job != "" {
		f.Job = &job
	}
	what := "read the audit trail of " + service
	a, err := c.ListAuditWithResponse(ctx, &f)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, err)
	}
	found, err := answered(what, a.JSON200, a.HTTPResponse, a.Body)
	if err != nil {
		return nil, false, err
	}
	next, err := nextCursor(a.HTTPResponse)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, err)
	}
	return found.Items, next != nil, nil
}

// AuditEntry reads one entry with the bytes that it replaced.
func (s *System) AuditEntry(ctx context.Context, service string, seq int64) (letters.AuditEntry, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.AuditEntry{}, err
	}
	a, err := c.GetAuditEntryWithResponse(ctx, seq)
	if err != nil {
		return letters.AuditEntry{}, fmt.Errorf("read entry %d of %s: %w", seq, service, err)
	}
	return answered(fmt.Sprintf("read entry %d of %s", seq, service), a.JSON200, a.HTTPResponse, a.Body)
}

func (s *System) lettersOf(service string) (*letters.ClientWithResponses, error) {
	c, ok := s.letters[service]
	if !ok {
		return nil, fmt.Errorf("there is no service %q, must be one of %v", service, Services())
	}
	return c, nil
}
