package deadletter

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	httpapi.Mount(r.With(httpapi.StaffOnly), spec, httpapi.MountOptions{MaxBody: maxEdit}, func(r chi.Router) {
		rest.HandlerWithOptions(rest.NewStrictHandlerWithOptions(handler{s}, nil, rest.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
		}), rest.ChiServerOptions{BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError})
	})
	return nil
}

type handler struct{ store *Store }

// maxEdit bounds a request's body, in bytes: a record of 1 MiB as base64, or as text that JSON has to escape.
const maxEdit = 2 << 20

// maxBody is the largest body of a letter, in bytes: with its headers it must fit into the redrive topic.
const maxBody = 1 << 20

// Kinds of cursors.
const (
	listKind  = "dead-letters/1"
	auditKind = "dead-letter-audit/1"
	jobsKind  = "dead-letter-jobs/1"
)

const defaultLimit = 50

// value is what an optional field has, or its zero value.
func value[T any](p *T) T {
	var zero T
	return valueOr(p, zero)
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// optional leaves a zero value out.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func filterOf(p rest.ListCausesParams) Filter {
	return Filter{
		State: State(value(p.State)), Group: value(p.Group), Topic: value(p.Topic), EventType: value(p.EventType), ErrorType: string(value(p.ErrorType)),
		Cause: value(p.Cause), Key: value(p.Key), Text: value(p.Text), Since: value(p.Since), Until: value(p.Until),
	}
}

// ListDeadLetters implements GET /admin/dead-letters.
func (h handler) ListDeadLetters(ctx context.Context, r rest.ListDeadLettersRequestObject) (rest.ListDeadLettersResponseObject, error) {
	p := r.Params
	position, err := httpapi.After[Position](listKind, p.Cursor)
	if err != nil {
		return nil, err
	}
	f := filterOf(rest.ListCausesParams{
		State: p.State, Group: p.Group, Topic: p.Topic, EventType: p.EventType, ErrorType: p.ErrorType,
		Cause: p.Cause, Key: p.Key, Text: p.Text, Since: p.Since, Until: p.Until,
	})
	limit := valueOr(p.Limit, defaultLimit)
	letters, err := h.store.List(ctx, f, position, limit+1)
	if err != nil {
		return nil, err
	}
	answer := rest.ListDeadLetters200JSONResponse{}
	letters, answer.Headers.Link, err = httpapi.Page(ctx, listKind, letters, limit, func(l Letter) Position { return Position{l.FailedAt, l.ID} })
	answer.Body.Items = each(letters, body)
	return answer, err
}

// ListCauses implements GET /admin/dead-letters/causes.
func (h handler) ListCauses(ctx context.Context, r rest.ListCausesRequestObject) (rest.ListCausesResponseObject, error) {
	causes, err := h.store.Causes(ctx, filterOf(r.Params), valueOr(r.Params.Limit, defaultLimit))
	return rest.ListCauses200JSONResponse{Items: each(causes, causeBody)}, err
}

// GetDeadLetter implements GET /admin/dead-letters/{id}.
func (h handler) GetDeadLetter(ctx context.Context, r rest.GetDeadLetterRequestObject) (rest.GetDeadLetterResponseObject, error) {
	l, err := h.store.Get(ctx, r.ID)
	return rest.GetDeadLetter200JSONResponse(detail(l)), problem(err, "dead letter "+r.ID)
}

// RedriveDeadLetter implements POST /admin/dead-letters/{id}/redrive.
func (h handler) RedriveDeadLetter(ctx context.Context, r rest.RedriveDeadLetterRequestObject) (rest.RedriveDeadLetterResponseObject, error) {
	by, err := who(*r.Body)
	if err != nil {
		return nil, err
	}
	l, err := h.store.Redrive(ctx, r.ID, by)
	return rest.RedriveDeadLetter202JSONResponse(body(l)), problem(err, "dead letter "+r.ID)
}

// DiscardDeadLetter implements POST /admin/dead-letters/{id}/discard.
func (h handler) DiscardDeadLetter(ctx context.Context, r rest.DiscardDeadLetterRequestObject) (rest.DiscardDeadLetterResponseObject, error) {
	by, err := who(*r.Body)
	if err != nil {
		return nil, err
	}
	l, err := h.store.Discard(ctx, r.ID, by)
	return rest.DiscardDeadLetter200JSONResponse(body(l)), problem(err, "dead letter "+r.ID)
}

// EditDeadLetter implements POST /admin/dead-letters/{id}/edit.
func (h handler) EditDeadLetter(ctx context.Context, r rest.EditDeadLetterRequestObject) (rest.EditDeadLetterResponseObject, error) {
	by, err := who(rest.By{Actor: r.Body.Actor, Reason: r.Body.Reason})
	if err != nil {
		return nil, err
	}
	var bytes []byte
	switch text, encoded := r.Body.Value, r.Body.ValueBase64; {
	case (text == nil) == (encoded == nil):
		return nil, httpapi.BadRequest("the request does not match the API", httpapi.FieldError{In: "body", Detail: "must have either value or value_base64"})
	case text != nil:
		bytes = []byte(*text)
	default:
		if bytes, err = base64.StdEncoding.DecodeString(*encoded); err != nil {
			return nil, httpapi.BadRequest("the request does not match the API", httpapi.FieldError{In: "body", Path: "/value_base64", Detail: "must be base64 with padding (RFC 4648, section 4)"})
		}
	}
	if len(bytes) > maxBody {
		return nil, httpapi.NewProblem(http.StatusRequestEntityTooLarge, "the letter's body must be at most %d bytes, is %d", maxBody, len(bytes))
	}
	l, err := h.store.Edit(ctx, r.ID, bytes, by)
	return rest.EditDeadLetter200JSONResponse(detail(l)), problem(err, "dead letter "+r.ID)
}

// who refuses an actor or a reason of nothing but spaces: the audit trail is for somebody to read.
func who(by rest.By) (By, error) {
	var mistakes []httpapi.FieldError
	for name, text := range map[string]string{"/actor": by.Actor, "/reason": by.Reason} {
		if strings.TrimSpace(text) == "" {
			mistakes = append(mistakes, httpapi.FieldError{In: "body", Path: name, Detail: "must not be blank"})
		}
	}
	if mistakes != nil {
		return By{}, httpapi.BadRequest("the audit trail needs to know who and why", mistakes...)
	}
	return By(by), nil
}

// problem is what a caller hears of the store's errors. What was not found is named.
func problem(err error, what string) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return httpapi.NotFound("there is no %s", what)
	case errors.Is(err, ErrState):
		return httpapi.Conflict("%s", err.Error())
	case errors.Is(err, ErrBusy):
		return httpapi.Conflict("%s: wait for it or stop it", err.Error())
	case errors.Is(err, ErrNothing):
		return httpapi.Unprocessable(err.Error(), httpapi.FieldError{In: "body", Path: "/filter", Detail: "must match a letter that waits; the list with the same parameters and state=open shows which do"})
	case errors.Is(err, ErrTooMany):
		return httpapi.Unprocessable(err.Error(), httpapi.FieldError{In: "body", Path: "/filter", Detail: "must match fewer letters, or max be larger"})
	}
	return err
}

func each[T, B any](items []T, body func(T) B) []B {
	all := make([]B, len(items))
	for i, item := range items {
		all[i] = body(item)
	}
	return all
}

func body(l Letter) rest.Letter {
	key := printable(string(l.Key))
	return rest.Letter{
		ID: l.ID, Group: l.Group, Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Key: &key, EventID: l.EventID,
		EventType: l.EventType, ErrorType: rest.ErrorType(l.ErrorType), Error: l.Error, Cause: l.Cause, Retries: l.Retries,
		Failures: l.Failures, FailedAt: l.FailedAt, State: rest.State(l.State), UpdatedAt: l.UpdatedAt,
		Actor: l.Actor, Reason: l.Reason, Job: optional(l.Job), Edits: l.Edits, Omitted: optional(l.Omitted),
	}
}

func detail(l Letter) rest.LetterDetail {
	b := body(l)
	d := rest.LetterDetail{
		ID: b.ID, Group: b.Group, Topic: b.Topic, Partition: b.Partition, Offset: b.Offset, Key: b.Key, EventID: b.EventID,
		EventType: b.EventType, ErrorType: b.ErrorType, Error: b.Error, Cause: b.Cause, Retries: b.Retries,
		Failures: b.Failures, FailedAt: b.FailedAt, State: b.State, UpdatedAt: b.UpdatedAt, Actor: b.Actor, Reason: b.Reason,
		Job: b.Job, Edits: b.Edits, Omitted: b.Omitted,
		Headers: l.Headers, ValueBase64: base64.StdEncoding.EncodeToString(l.Value),
	}
	if utf8.Valid(l.Value) {
		text := string(l.Value)
		d.Value = &text
	}
	return d
}

func causeBody(c CauseCount) rest.Cause {
	return rest.Cause{
		Group: c.Group, Topic: c.Topic, EventType: c.EventType, ErrorType: rest.ErrorType(c.ErrorType), Cause: c.Cause,
		Letters: c.Letters, Open: c.Open, FirstFailedAt: c.First, LastFailedAt: c.Last, Example: c.Example,
	}
}
