package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/observe"
)

// maxAnswer is how much of an answer is read, in bytes: enough to say what the receiver said.
const maxAnswer = 512

func newClient(connections int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
			IdleConnTimeout: time.Minute,
		},
		// A redirected POST becomes a GET without a body: better to hear that the address is wrong.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close drops the idle connections.
func (c *Channel) Close() { c.client.CloseIdleConnections() }

// post makes one attempt. The error says whether another one may help.
func (c *Channel) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fault.Permanentf("webhook: %s", observe.Mask(err.Error()))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "orderflow-notification")
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(c.deps.Now().Unix(), 10))
	observe.Propagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	res, err := c.client.Do(req)
	if err != nil {
		return fault.Transientf("webhook: %s", observe.Mask(err.Error()))
	}
	defer func() { _ = res.Body.Close() }()
	// What cannot be read is no reason to doubt the status.
	said, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	err = fmt.Errorf("webhook: the receiver answered %s: %s", res.Status, strings.ToValidUTF8(strings.TrimSpace(string(said)), "?"))
	switch {
	case res.StatusCode >= 500, res.StatusCode == http.StatusRequestTimeout, res.StatusCode == http.StatusTooEarly,
		res.StatusCode == http.StatusTooManyRequests:
		return fault.AsTransient(err)
	default:
		return fault.AsPermanent(err)
	}
}
