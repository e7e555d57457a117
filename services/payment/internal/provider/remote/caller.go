package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/orderflow/orderflow/pkg/fault"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// refusal is an answer that says no in the contract's own words.
type refusal struct {
	who    string
	status int
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Error says the status and the code; the detail may be personal.
func (r *refusal) Error() string { return fmt.Sprintf("%s: %d %q", r.who, r.status, r.Code) }

// caller posts JSON to one API, each call under an idempotency key.
type caller struct {
	who    string
	cfg    Config
	client *http.Client
	jitter func() float64
	// decides tells a no that is the other side's decision from one that is nobody's intention.
	decides func(*refusal) bool
}

func newCaller(who string, cfg Config, jitter func() float64, decides func(*refusal) bool) *caller {
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	return &caller{who: who, cfg: cfg, jitter: jitter, decides: decides, client: &http.Client{
		Transport: transport,
		// A redirect would take the request, its key and its token to somebody else, or make it a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post calls path until there is an answer that counts, and decodes it. A decision against it is a *refusal.
func (c *caller) post(ctx context.Context, path, key string, body, answer any) (status int, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, fault.Permanentf("%s: encode request: %w", c.who, err)
	}
	wait := c.cfg.Backoff
	for attempt := 1; ; attempt++ {
		status, err = c.once(ctx, path, key, data, answer)
		var no *refusal
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

func (c *caller) once(ctx context.Context, path, key string, data []byte, answer any) (int, error) {
	attempt, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
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
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	res, err := c.client.Do(req)
	if err != nil {
		return 0, c.away(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return res.StatusCode, c.away(ctx, err)
	case len(text) > maxAnswer:
		return res.StatusCode, fault.Transientf("%s: %d with more than %d bytes", c.who, res.StatusCode, maxAnswer)
	}
	return res.StatusCode, c.read(res.StatusCode, text, answer)
}

// away is transient, but for our own stop, which says nothing of the other side.
func (c *caller) away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.who, ctx.Err())
	}
	return fault.Transientf("%s: no answer: %w", c.who, err)
}

// read sorts an answer by its status; see the package's doc.
func (c *caller) read(status int, text []byte, answer any) error {
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
	no := &refusal{who: c.who, status: status}
	if err := json.Unmarshal(text, no); err != nil {
		no.Code, no.Detail = "", ""
	}
	if status == http.StatusConflict || c.decides(no) {
		return fault.AsTransient(no)
	}
	return fault.AsPermanent(no)
}
