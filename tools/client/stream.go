package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// StreamEvent is one server-sent event.
type StreamEvent struct {
	// ID is the position after the event; what came before an event without one stays.
	ID string
	// Name is what kind of event it is: "notification", "reset".
	Name string
	Data string
}

// ErrStop ends a stream from within.
var ErrStop = errors.New("stop")

// Follow reads a customer's event stream until ctx ends, fn fails, or the server ends it (io.EOF). After is the last id
// that was seen; empty begins now. Opened, if not nil, is called with the position once the stream stands.
func (s *System) Follow(ctx context.Context, customer, after string, opened func(position string), fn func(StreamEvent) error) error {
	url := s.Addresses.URLs["notification"] + "/v1/customers/" + customer + "/notifications/stream"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := s.streams.Do(request)
	if err != nil {
		return fmt.Errorf("follow the notifications of %s: %w", customer, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // what can be read of why
		_, err := answered[struct{}]("follow the notifications of "+customer, nil, response, body)
		return err
	}
	err = readEvents(response.Body, opened, fn)
	if errors.Is(err, ErrStop) {
		return nil
	}
	return fmt.Errorf("follow the notifications of %s: %w", customer, err)
}

// readEvents decodes a stream (HTML standard, section 9.2.6). Opened gets the first id, if it comes before any event.
func readEvents(r io.Reader, opened func(string), fn func(StreamEvent) error) error {
	var e StreamEvent
	var data []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if len(data) > 0 {
				e.Data = strings.Join(data, "\n")
				if err := fn(e); err != nil {
					return err
				}
			} else if opened != nil && e.ID != "" {
				opened(e.ID)
				opened = nil
			}
			e, data = StreamEvent{ID: e.ID}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.ID = value
		case "event":
			e.Name = value
		case "data":
			data = append(data, value)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}
