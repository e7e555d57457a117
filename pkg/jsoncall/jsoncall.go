package jsoncall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/observe"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// Config is how to reach the other side.
type Config struct {
	// URL is the API's base.
	URL string
	// Token is the secret that the other side knows this service by; empty sends none.
	Token string
	// Timeout bounds one attempt.
	Timeout time.Duration
	// Attempts is how often one call is tried, at least once.
	Attempts int
	// Backoff is the wait before the second attempt; each further one is twice as long.
	Backoff time.Duration
	// BreakerFailures is after how many failed calls in a row, of different keys, the breaker opens; 0 means 5.
	BreakerFailures int
	// BreakerCooldown is how long it then refuses calls before it lets one through; 0 means 5 seconds.
	BreakerCooldown time.Duration
}

// Deps is what a Caller needs beside; all of it must be there.
type Deps struct {
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// Now is the clock of the cool-down.
	Now func() time.Time
	// Jitter returns numbers in [0, 1).
	Jitter func() float64
}

// Refusal is an answer that says no, with what the other side says of it; without a code if it says nothing readable.
type Refusal struct {
	who string
	// Status is the HTTP status.
	Status int    `json:"-"`
	Code   string `json:"code"`
	// Detail may be personal.
	Detail string `json:"detail"`
}

// Error says the status and the code.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %d %q", r.who, r.Status, r.Code) }

// Caller calls one API. It is safe for concurrent use.
type Caller struct {
	who     string
	cfg     Config
	client  *http.Client
	jitter  func() float64
	breaker *breaker
	// decides tells a no that is the other side's decision from one that is nobody's intention.
	decides func(*Refusal) bool
}

// New returns a caller. who names the other side in errors, logs and metrics, and decides tells which refusals are the
// other side's decision. It fails when there is a caller of that name in the registry.
func New(who string, cfg Config, deps Deps, decides func(*Refusal) bool) (*Caller, error) {
	breaker, err := newBreaker(who, cfg, deps)
	if err != nil {
		return nil, err
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// A connection carries one request. Answers of HTTP/1.1 bear no mark of what they answer: a second answer that a side or
	// its proxy sends would be taken for that to the next request on the connection, which is somebody else's charge.
	transport.DisableKeepAlives = true
	return &Caller{who: who, cfg: cfg, jitter: deps.Jitter, decides: decides, breaker: breaker, client: &http.Client{
		Transport: transport,
		// A redirect would take the request, its key and its token to somebody else, or make it a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close lets go of what connections are left.
func (c *Caller) Close() { c.client.CloseIdleConnections() }

// Post posts body to path under key until there is an answer that counts, and decodes it into answer, unless the status
// is 204. Its error is a *Refusal for a decision, and otherwise marked with what it says of trying again.
func (c *Caller) Post(ctx context.Context, path, key string, body, answer any) (status int, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, fault.Permanentf("%s: encode request: %w", c.who, err)
	}
	if err := c.breaker.admit(); err != nil {
		return 0, err
	}
	status, err = c.try(ctx, path, key, data, answer)
	return status, c.breaker.settle(ctx, key, err)
}

// try is a call's attempts.
func (c *Caller) try(ctx context.Context, path, key string, data []byte, answer any) (status int, err error) {
	wait := c.cfg.Backoff
	for attempt := 1; ; attempt++ {
		status, err = c.once(ctx, path, key, data, answer)
		var no *Refusal
		if err == nil || errors.As(err, &no) && c.decides(no) {
			return status, err
		}
		if fault.KindOf(err) == fault.Permanent || attempt >= c.cfg.Attempts {
			return status, err
		}
		timer := time.NewTimer(time.Duration((0.5 + c.jitter()/2) * float64(wait)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return status, fmt.Errorf("%s: %w", c.who, ctx.Err())
		case <-timer.C:
		}
		wait *= 2
	}
}

func (c *Caller) once(ctx context.Context, path, key string, data []byte, answer any) (int, error) {
	attempt, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var connected atomic.Bool
	attempt = httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(attempt, http.MethodPost, c.cfg.URL+path, bytes.NewReader(data))
	if err != nil {
		return 0, fault.Permanentf("%s: %w", c.who, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Idempotency-Key", key)
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	observe.Propagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	res, err := c.client.Do(req)
	if err != nil {
		return 0, c.away(ctx, err, connected.Load())
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return res.StatusCode, c.away(ctx, err, true)
	case len(text) > maxAnswer:
		return res.StatusCode, fault.Transientf("%s: %d with more than %d bytes", c.who, res.StatusCode, maxAnswer)
	}
	return res.StatusCode, c.read(res.StatusCode, text, answer)
}

// away is what no answer means. Our own stop says nothing of the other side, and a side to which there was no connection
// has seen nothing of what was asked, so that it cannot be the reason.
func (c *Caller) away(ctx context.Context, err error, connected bool) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", c.who, ctx.Err())
	case !connected:
		return fault.Unavailablef("%s: no connection: %w", c.who, err)
	}
	return fault.Transientf("%s: no answer: %w", c.who, err)
}

// read sorts an answer by its status; see the package's doc.
func (c *Caller) read(status int, text []byte, answer any) error {
	switch {
	case status == http.StatusNoContent:
		return nil
	case status >= 200 && status < 300:
		if err := json.Unmarshal(text, answer); err != nil {
			return fault.Transientf("%s: %d with unreadable JSON", c.who, status)
		}
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return fault.Transientf("%s: %d", c.who, status)
	}
	no := &Refusal{who: c.who, Status: status}
	if err := json.Unmarshal(text, no); err != nil {
		no.Code, no.Detail = "", ""
	}
	if status == http.StatusConflict || c.decides(no) {
		return fault.AsTransient(no)
	}
	return fault.AsPermanent(no)
}
