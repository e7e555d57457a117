package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/orderflow/orderflow/pkg/observe"
)

const (
	// checkTimeout bounds one check.
	checkTimeout = 2 * time.Second
	// checkTTL is how long an answer is given again: probes from many sides cost one round of checks.
	checkTTL = 500 * time.Millisecond
)

type state string

const (
	starting state = "starting"
	running  state = "running"
	draining state = "draining"
)

type health struct {
	mu     sync.Mutex
	state  state
	checks []*check
	awaits map[string]error

	// round is held during one round of checks, so that probes that come meanwhile get its answer.
	round sync.Mutex
	at    time.Time
	last  map[string]checkResult
}

type check struct {
	name string
	fn   func(context.Context) error
	// busy holds a token while a call is under way: one that hangs is not started a second time.
	busy chan struct{}
}

type checkResult struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

type readiness struct {
	Ready  bool                   `json:"ready"`
	State  state                  `json:"state"`
	Checks map[string]checkResult `json:"checks"`
}

func newHealth() *health { return &health{state: starting, awaits: map[string]error{}} }

func (h *health) setState(s state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = s
}

func (h *health) add(name string, fn func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &check{name: name, fn: fn, busy: make(chan struct{}, 1)})
}

// waiting notes that the start waits for name, or with nil that it does no longer.
func (h *health) waiting(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.awaits, name)
		return
	}
	h.awaits[name] = err
}

// ready runs the checks, or gives the last answer again while it is fresh.
func (h *health) ready() readiness {
	results := h.results()
	h.mu.Lock()
	defer h.mu.Unlock()
	// The state is read last: a process that drains is unready at once, whatever the cached checks say.
	out := readiness{State: h.state, Ready: h.state == running, Checks: map[string]checkResult{}}
	for name, r := range results {
		out.Checks[name] = r
		out.Ready = out.Ready && r.OK
	}
	for name, err := range h.awaits {
		out.Checks[name] = failed(err)
		out.Ready = false
	}
	return out
}

func (h *health) results() map[string]checkResult {
	h.round.Lock()
	defer h.round.Unlock()
	h.mu.Lock()
	checks := h.checks[:len(h.checks):len(h.checks)]
	h.mu.Unlock()
	if time.Since(h.at) < checkTTL && len(h.last) == len(checks) {
		return h.last
	}
	// Not the probe's own context: the answer is for all who ask.
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	type named struct {
		name string
		checkResult
	}
	answers := make(chan named, len(checks))
	for _, c := range checks {
		go func() { answers <- named{c.name, c.call(ctx)} }()
	}
	h.last = make(map[string]checkResult, len(checks))
	for range checks {
		a := <-answers
		h.last[a.name] = a.checkResult
	}
	h.at = time.Now()
	return h.last
}

// call returns when the check does or when ctx ends, whichever is first.
func (c *check) call(ctx context.Context) checkResult {
	select {
	case c.busy <- struct{}{}:
	default:
		return failed(errors.New("the check before has not come back"))
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-c.busy }()
		done <- guarded(ctx, c.fn)
	}()
	select {
	case err := <-done:
		if err != nil {
			return failed(err)
		}
		return checkResult{OK: true}
	case <-ctx.Done():
		return failed(fmt.Errorf("no answer within %s", checkTimeout))
	}
}

func failed(err error) checkResult { return checkResult{Error: observe.Mask(err.Error())} }

// serve answers /readyz.
func (h *health) serve(w http.ResponseWriter, _ *http.Request) {
	r := h.ready()
	status := http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	answer(w, status, r)
}

// live answers /livez: the process runs and its HTTP server answers, and nothing else, because a restart does not
// bring back a database.
func live(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, struct {
		Alive bool `json:"alive"`
	}{true})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
