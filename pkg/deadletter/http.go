package deadletter

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/httpapi"
)

// Mount serves the verbs at /admin/dead-letters on r, to all but customers; rest/openapi.yaml is their contract.
func Mount(r chi.Router, s *Store) error {
	spec, err := rest.GetSpec()
	if err != nil {
		return fmt.Errorf("dead-letter API: %w", err)
	}
	httpapi.Mount(r.With(httpapi.StaffOnly), spec, httpapi.MountOptions{}, func(r chi.Router) {
		rest.HandlerWithOptions(rest.NewStrictHandlerWithOptions(handler{s}, nil, rest.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), rest.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	return nil
}

type handler struct{ store *Store }

const (
	listKind     = "dead-letters/1"
	defaultLimit = 50
)

func (h handler) ListDeadLetters(ctx context.Context, r rest.ListDeadLettersRequestObject) (rest.ListDeadLettersResponseObject, error) {
	f := Filter{Limit: defaultLimit}
	if r.Params.Limit != nil {
		f.Limit = *r.Params.Limit
	}
	if r.Params.State != nil {
		f.State = State(*r.Params.State)
	}
	if r.Params.Cursor != nil {
		var err error
		if f.After, err = httpapi.DecodeCursor[Position](listKind, *r.Params.Cursor); err != nil {
			return nil, err
		}
	}
	limit := f.Limit
	f.Limit++ // one more than shown tells whether there is a next page
	letters, err := h.store.List(ctx, f)
	if err != nil {
		return nil, err
	}
	answer := rest.ListDeadLetters200JSONResponse{}
	if len(letters) > limit {
		letters = letters[:limit]
		last := letters[limit-1]
		cursor, err := httpapi.EncodeCursor(listKind, Position{FailedAt: last.FailedAt, ID: last.ID})
		if err != nil {
			return nil, err
		}
		link := httpapi.NextLink(ctx, cursor)
		answer.Headers.Link = &link
	}
	answer.Body.Items = make([]rest.Letter, len(letters))
	for i, l := range letters {
		answer.Body.Items[i] = body(l)
	}
	return answer, nil
}

func (h handler) GetDeadLetter(ctx context.Context, r rest.GetDeadLetterRequestObject) (rest.GetDeadLetterResponseObject, error) {
	l, err := h.store.Get(ctx, r.ID)
	if err != nil {
		return nil, problem(err, r.ID)
	}
	b := body(l)
	detail := rest.LetterDetail{
		ID: b.ID, Group: b.Group, Topic: b.Topic, Partition: b.Partition, Offset: b.Offset, Key: b.Key, EventID: b.EventID,
		EventType: b.EventType, ErrorType: rest.LetterDetailErrorType(b.ErrorType), Error: b.Error, Retries: b.Retries,
		Failures: b.Failures, FailedAt: b.FailedAt, State: b.State, UpdatedAt: b.UpdatedAt, Actor: b.Actor, Reason: b.Reason,
		Headers: l.Headers, ValueBase64: base64.StdEncoding.EncodeToString(l.Value),
	}
	if utf8.Valid(l.Value) {
		text := string(l.Value)
		detail.Value = &text
	}
	return rest.GetDeadLetter200JSONResponse(detail), nil
}

func (h handler) RedriveDeadLetter(ctx context.Context, r rest.RedriveDeadLetterRequestObject) (rest.RedriveDeadLetterResponseObject, error) {
	l, err := h.store.Redrive(ctx, r.ID, By(*r.Body))
	if err != nil {
		return nil, problem(err, r.ID)
	}
	return rest.RedriveDeadLetter202JSONResponse(body(l)), nil
}

func (h handler) DiscardDeadLetter(ctx context.Context, r rest.DiscardDeadLetterRequestObject) (rest.DiscardDeadLetterResponseObject, error) {
	l, err := h.store.Discard(ctx, r.ID, By(*r.Body))
	if err != nil {
		return nil, problem(err, r.ID)
	}
	return rest.DiscardDeadLetter200JSONResponse(body(l)), nil
}

func problem(err error, id string) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return httpapi.NotFound("there is no dead letter %s", id)
	case errors.Is(err, ErrState):
		return httpapi.Conflict("%s", err.Error())
	}
	return err
}

func body(l Letter) rest.Letter {
	key := printable(string(l.Key))
	return rest.Letter{
		ID: l.ID, Group: l.Group, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: &key, EventID: l.EventID,
		EventType: l.EventType, ErrorType: rest.LetterErrorType(l.ErrorType), Error: l.Error, Retries: l.Retries,
		Failures: l.Failures, FailedAt: l.FailedAt, State: rest.State(l.State), UpdatedAt: l.UpdatedAt,
		Actor: l.Actor, Reason: l.Reason,
	}
}
