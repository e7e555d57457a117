package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxEventID bounds a Last-Event-ID that comes in.
const maxEventID = 256

// StreamOptions are the bounds of an event stream; zero fields get their defaults.
type StreamOptions struct {
	// Heartbeat is how often a comment is sent while nothing happens, so that proxies keep the connection and a client
	// that is gone is noticed. Default 15 s.
	Heartbeat time.Duration
	// WriteTimeout is how long one event may take to be taken by the client; a slower one is cut off and resumes with
	// Last-Event-ID. Default 10 s.
	WriteTimeout time.Duration
	// Retry is what a client is told to wait before it connects again. Default 2 s.
	Retry time.Duration
}

// StreamEvent is one server-sent event.
type StreamEvent struct {
	// ID is what a client sends back as Last-Event-ID; empty leaves the client's position where it is.
	ID string
	// Name is the event field; empty means "message".
	Name string
	// Data may have several lines.
	Data []byte
}

// Stream is an answer of server-sent events (text/event-stream). It is for one goroutine.
type Stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
	opts StreamOptions
}

// ErrSlowClient is in the error of a write that the client did not take in time, or at all.
var ErrSlowClient = errors.New("the client does not read")

// NewStream starts the answer: headers and the retry field.
func NewStream(w http.ResponseWriter, opts StreamOptions) (*Stream, error) {
	if opts.Heartbeat == 0 {
		opts.Heartbeat = 15 * time.Second
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = 10 * time.Second
	}
	if opts.Retry == 0 {
		opts.Retry = 2 * time.Second
	}
	s := &Stream{w: w, ctrl: http.NewResponseController(w), opts: opts}
	// The server's read timeout is about requests; its passing would end this request's context.
	if err := s.ctrl.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("event stream: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	// Neither kept, nor compressed and so held back, on the way.
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Del("Content-Length")
	w.WriteHeader(http.StatusOK)
	return s, s.write([]byte("retry: " + strconv.FormatInt(opts.Retry.Milliseconds(), 10) + "\n\n"))
}

// Send writes one event and flushes it.
func (s *Stream) Send(e StreamEvent) error {
	var b bytes.Buffer
	if e.ID != "" {
		if strings.ContainsAny(e.ID, "\r\n\x00") {
			return fmt.Errorf("event id %q: must be one line", e.ID)
		}
		b.WriteString("id: " + e.ID + "\n")
	}
	if e.Name != "" {
		if strings.ContainsAny(e.Name, "\r\n") {
			return fmt.Errorf("event name %q: must be one line", e.Name)
		}
		b.WriteString("event: " + e.Name + "\n")
	}
	// All three line ends of the format end a line; a bare one in the data would forge a field.
	data := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(e.Data))
	for line := range strings.SplitSeq(data, "\n") {
		b.WriteString("data: " + line + "\n")
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

// Heartbeat writes a comment, which clients ignore.
func (s *Stream) Heartbeat() error { return s.write([]byte(":\n\n")) }

// Serve sends events, and heartbeats between them, until events is closed, the client is gone (ctx) or the server
// shuts down. It returns nil then, and an error when a write failed.
func (s *Stream) Serve(ctx context.Context, events <-chan StreamEvent) error {
	beat := time.NewTicker(s.opts.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-Draining(ctx):
			return nil
		case <-beat.C:
			if err := s.Heartbeat(); err != nil {
				return err
			}
		case e, open := <-events:
			if !open {
				return nil
			}
			if err := s.Send(e); err != nil {
				return err
			}
			beat.Reset(s.opts.Heartbeat)
		}
	}
}

func (s *Stream) write(b []byte) error {
	if err := s.ctrl.SetWriteDeadline(time.Now().Add(s.opts.WriteTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("event stream: %w", err)
	}
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("event stream: %w: %w", ErrSlowClient, err)
	}
	if err := s.ctrl.Flush(); err != nil {
		return fmt.Errorf("event stream: %w: %w", ErrSlowClient, err)
	}
	return nil
}

// LastEventID returns where a client wants to resume: the header Last-Event-ID, which browsers send when they connect
// again, before the query last_event_id, which a first connection can have. Empty means from now.
func LastEventID(r *http.Request) (string, error) {
	in, name, id := "header", "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if id == "" {
		in, name, id = "query", "last_event_id", r.URL.Query().Get("last_event_id")
	}
	if len(id) > maxEventID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", BadRequest("the request does not match the API", FieldError{
			In: in, Path: name, Detail: "must be the id of an event of this stream",
		})
	}
	return id, nil
}
