package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/httpapi"
)

// Names of the events.
const (
	eventNotification = "notification"
	eventReset        = "reset"
)

// resetData is what a reset says.
type resetData struct {
	// After is the position from which something is missing, Position the one from which it goes on.
	After    string `json:"after"`
	Position string `json:"position"`
	// List is where the notifications are that the stream has no longer.
	List string `json:"list"`
}

// stream answers one event stream: what the client has not, then what comes.
func (s Server) stream(w http.ResponseWriter, r *http.Request, customer string) {
	if err := theirs(r.Context(), customer); err != nil {
		httpapi.Write(w, r, err)
		return
	}
	after, err := resumeFrom(r)
	if err != nil {
		httpapi.Write(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	follower, err := s.Hub.Follow(ctx, customer, after)
	if err != nil {
		httpapi.Write(w, r, err)
		return
	}
	defer follower.Close()
	out, err := httpapi.NewStream(w, httpapi.StreamOptions{Heartbeat: s.Heartbeat})
	if err != nil {
		return // the client is gone
	}
	// An id alone is no event, but the client keeps it: one that loses the connection before its first notification
	// resumes from here all the same. What cannot be written is noticed with the heartbeat.
	_, _ = io.WriteString(w, "id: "+feed.Position(max(after, follower.Position()))+"\n\n")
	if err := out.Heartbeat(); err != nil {
		return
	}

	events := make(chan httpapi.StreamEvent)
	send := func(e httpapi.StreamEvent) error {
		select {
		case events <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := make(chan error, 1)
	go func() {
		defer close(events)
		done <- follower.Run(ctx, func(e feed.Entry) error {
			return send(httpapi.StreamEvent{ID: feed.Position(e.Number), Name: eventNotification, Data: e.Data})
		}, func(reset feed.Reset) error {
			data, err := json.Marshal(resetData{
				After: feed.Position(reset.After), Position: feed.Position(reset.Position),
				List: "/v1/customers/" + customer + "/notifications",
			})
			if err != nil {
				return err
			}
			return send(httpapi.StreamEvent{ID: feed.Position(reset.Position), Name: eventReset, Data: data})
		})
	}()
	served := out.Serve(ctx, events)
	cancel()
	if err := errors.Join(served, <-done); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, httpapi.ErrSlowClient) {
		s.Logger.WarnContext(ctx, "an event stream was cut off; its client can resume", "customer", customer, "error", err)
	}
}

// resumeFrom is the number that the client has seen last, feed.Now without one.
func resumeFrom(r *http.Request) (int64, error) {
	last, err := httpapi.LastEventID(r)
	if err != nil || last == "" {
		return feed.Now, err
	}
	number, ok := feed.ParsePosition(last)
	if !ok {
		field := httpapi.FieldError{In: "query", Path: "last_event_id", Detail: "must be the id of an event of this stream, <number>-0"}
		if r.Header.Get("Last-Event-ID") != "" {
			field.In, field.Path = "header", "Last-Event-ID"
		}
		return 0, httpapi.BadRequest("the request does not match the API", field)
	}
	return number, nil
}
