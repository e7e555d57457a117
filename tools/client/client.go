package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	parked "github.com/orderflow/orderflow/pkg/parking/rest"
)

// requestTimeout bounds one request, streams excepted. A service answers within a minute: so long a job over a million dead
// letters may take to begin.
const requestTimeout = time.Minute

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 16 << 20

// System is a running system. Its generated clients are for requests that have no method here.
type System struct {
	Addresses Addresses
	// HTTP is the client behind all requests but streams.
	HTTP *http.Client

	Orders        *orderapi.ClientWithResponses
	Inventory     *inventoryapi.ClientWithResponses
	Payments      *paymentapi.ClientWithResponses
	Shipping      *shippingapi.ClientWithResponses
	Notifications *notificationapi.ClientWithResponses
	Analytics     *analyticsapi.ClientWithResponses

	letters map[string]*letters.ClientWithResponses
	parked  map[string]*parked.ClientWithResponses
	streams *http.Client
}

// New returns a client for the services at a. It connects with its first request.
func New(a Addresses) (*System, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 64
	s := &System{
		Addresses: a, HTTP: &http.Client{Transport: transport, Timeout: requestTimeout},
		streams: &http.Client{Transport: transport}, letters: map[string]*letters.ClientWithResponses{}, parked: map[string]*parked.ClientWithResponses{},
	}
	var err error
	if s.Orders, err = orderapi.NewClientWithResponses(a.URLs["order"], orderapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	if s.Inventory, err = inventoryapi.NewClientWithResponses(a.URLs["inventory"], inventoryapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	if s.Payments, err = paymentapi.NewClientWithResponses(a.URLs["payment"], paymentapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	if s.Shipping, err = shippingapi.NewClientWithResponses(a.URLs["shipping"], shippingapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	if s.Notifications, err = notificationapi.NewClientWithResponses(a.URLs["notification"], notificationapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	if s.Analytics, err = analyticsapi.NewClientWithResponses(a.URLs["analytics"], analyticsapi.WithHTTPClient(s.HTTP)); err != nil {
		return nil, err
	}
	for service, base := range a.URLs {
		if s.letters[service], err = letters.NewClientWithResponses(base, letters.WithHTTPClient(s.HTTP)); err != nil {
			return nil, err
		}
		if s.parked[service], err = parked.NewClientWithResponses(base, parked.WithHTTPClient(s.HTTP)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close closes idle connections.
func (s *System) Close() { s.HTTP.CloseIdleConnections() }

// Refused is an answer that is not the expected one.
type Refused struct {
	// What was asked.
	What string
	// Status is the HTTP status.
	Status int
	// Title and Detail are the problem's, if the answer was one.
	Title, Detail string
	// Mistakes are the fields that the problem names, each with what is allowed there.
	Mistakes []string
}

func (r *Refused) Error() string {
	text := fmt.Sprintf("%s: %d %s", r.What, r.Status, r.Title)
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	for _, mistake := range r.Mistakes {
		text += "; " + mistake
	}
	return text
}

// answered is what an expected answer says, or a Refused. It is called with the fields of a generated response.
func answered[T any](what string, want *T, response *http.Response, body []byte) (T, error) {
	if want != nil {
		return *want, nil
	}
	var none T
	r := &Refused{What: what, Status: response.StatusCode, Title: http.StatusText(response.StatusCode)}
	var problem struct {
		Title, Detail string
		Errors        []struct{ In, Path, Detail string }
	}
	if json.Unmarshal(body, &problem) == nil && problem.Title != "" {
		r.Title, r.Detail = problem.Title, problem.Detail
		for _, e := range problem.Errors {
			r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s %s %s", e.In, e.Path, e.Detail))
		}
	}
	return none, r
}

var nextPage = regexp.MustCompile(`<([^>]*)>;\s*rel="next"`)

// nextCursor is the cursor of the page that a Link header leads to, or nil after the last page.
func nextCursor(response *http.Response) (*string, error) {
	next := nextPage.FindStringSubmatch(response.Header.Get("Link"))
	if next == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	u, err := url.Parse(next[1])
	if err != nil {
		return nil, fmt.Errorf("the link to the next page: %w", err)
	}
	cursor := u.Query().Get("cursor")
	return &cursor, nil
}

// Get reads a path of a service as text.
func (s *System) Get(ctx context.Context, service, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Addresses.URLs[service]+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, string(body), err
}

// Ready returns nil when every service says that it is ready, and otherwise which is not and why.
func (s *System) Ready(ctx context.Context) error {
	for _, service := range Services() {
		status, body, err := s.Get(ctx, service, "/readyz")
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		if status != http.StatusOK {
			return fmt.Errorf("%s is not ready: %s", service, strings.TrimSpace(body))
		}
	}
	return nil
}

// Metric is the sum of a service's series of that name whose labels contain every one given, such as `topic="x"`.
// No series is 0.
func (s *System) Metric(ctx context.Context, service, name string, labels ...string) (float64, error) {
	status, body, err := s.Get(ctx, service, "/metrics")
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("metrics of %s: status %d: %w", service, status, err)
	}
	sum := 0.0
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		at := strings.LastIndexByte(rest, ' ')
		value, err := strconv.ParseFloat(rest[at+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics of %s: %q: %w", service, lines.Text(), err)
		}
		if containsAll(rest[:at], labels) {
			sum += value
		}
	}
	return sum, lines.Err()
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// pollInterval is how often Eventually asks.
const pollInterval = 40 * time.Millisecond

// Eventually asks until done says yes or ctx ends; then the error is done's last objection, with why ctx ended.
func Eventually(ctx context.Context, done func(ctx context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var objection error
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		// A request that ctx cut off says nothing of what is waited for.
		if ctx.Err() == nil || objection == nil {
			objection = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), objection)
		case <-ticker.C:
		}
	}
}
