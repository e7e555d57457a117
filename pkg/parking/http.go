package parking

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/parking/rest"
)

// Mount serves the list of parked keys at /admin/parked on r, to all but customers; rest/openapi.yaml is its contract.
func Mount(r chi.Router, s *Store) error {
	spec, err := rest.GetSpec()
	if err != nil {
		return fmt.Errorf("parking API: %w", err)
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
	// listKind names the cursors of the list.
	listKind     = "parked/1"
	defaultLimit = 50
)

// ListParked implements GET /admin/parked.
func (h handler) ListParked(ctx context.Context, r rest.ListParkedRequestObject) (rest.ListParkedResponseObject, error) {
	p := r.Params
	position, err := httpapi.After[Position](listKind, p.Cursor)
	if err != nil {
		return nil, err
	}
	f, limit := Filter{}, defaultLimit
	if p.Group != nil {
		f.Group = *p.Group
	}
	if p.Topic != nil {
		f.Topic = *p.Topic
	}
	if p.Key != nil {
		f.Key = *p.Key
	}
	if p.State != nil {
		f.State = State(*p.State)
	}
	if p.Limit != nil {
		limit = *p.Limit
	}
	keys, err := h.store.Keys(ctx, f, position, limit+1)
	if err != nil {
		return nil, err
	}
	answer := rest.ListParked200JSONResponse{}
	keys, answer.Headers.Link, err = httpapi.Page(ctx, listKind, keys, limit, func(k Key) Position { return Position{k.Since, k.First} })
	answer.Body.Items = make([]rest.Key, len(keys))
	for i, k := range keys {
		answer.Body.Items[i] = body(k)
	}
	return answer, err
}

// GetParked implements GET /admin/parked/{id}.
func (h handler) GetParked(ctx context.Context, r rest.GetParkedRequestObject) (rest.GetParkedResponseObject, error) {
	k, messages, err := h.store.Key(ctx, r.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, httpapi.NotFound("no message %s waits: it was handled or given up, or never was here; the list shows those that do", r.ID)
	}
	b := body(k)
	d := rest.GetParked200JSONResponse{
		Group: b.Group, Topic: b.Topic, Partition: b.Partition, Key: b.Key, State: b.State, Messages: b.Messages, Bytes: b.Bytes,
		Since: b.Since, First: b.First, Attempts: b.Attempts, NextAttempt: b.NextAttempt, Letter: b.Letter,
		Waiting: make([]rest.Message, len(messages)),
	}
	for i, m := range messages {
		d.Waiting[i] = rest.Message{
			ID: m.ID, EventID: m.EventID, EventType: m.EventType, Bytes: m.Bytes, SentAt: m.Sent, Since: m.Since, Attempts: m.Attempts, Blocks: m.Blocks,
		}
	}
	return d, err
}

func body(k Key) rest.Key {
	b := rest.Key{
		Group: k.Group, Topic: k.Topic, Partition: k.Partition, Key: string(k.Key), State: rest.State(k.State()),
		Messages: k.Messages, Bytes: k.Bytes, Since: k.Since, First: k.First, Attempts: k.Attempts,
	}
	switch k.State() {
	case Blocked:
		b.Letter = &k.Letter
	case Retrying:
		b.NextAttempt = &k.Due
	case Queued:
	}
	return b
}
