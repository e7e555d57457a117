package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *buffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *buffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type api struct {
	http.Handler
	logs     *buffer
	registry *prometheus.Registry
	reached  int
}

const document = `
openapi: 3.0.3
info: {title: t, version: "1"}
servers: [{url: https://elsewhere.example/base}]
paths:
  /v1/orders:
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100, default: 20}}
        - {name: state, in: query, schema: {type: string, enum: [pending, confirmed]}}
        - {name: customer_id, in: query, schema: {type: string, pattern: '^[A-Za-z0-9_-]{1,64}$'}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
      responses: {'200': {description: ok}}
    post:
      parameters:
        - {name: Idempotency-Key, in: header, required: true, schema: {type: string, maxLength: 300}}
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/Order'}
      responses: {'202': {description: ok}}
  /v1/orders/{order_id}:
    get:
      parameters:
        - {name: order_id, in: path, required: true, schema: {type: string, pattern: '^[a-z0-9-]{1,36}$'}}
      responses: {'200': {description: ok}}
components:
  schemas:
    Order:
      type: object
      additionalProperties: false
      required: [customer_id, lines]
      properties:
        customer_id: {type: string, pattern: '^[A-Za-z0-9_-]{1,64}$'}
        note: {type: string, minLength: 1, maxLength: 10}
        price: {type: number, minimum: 0, exclusiveMinimum: true}
        kind: {type: string, enum: [gift, plain]}
        at: {type: string, format: date-time}
        free: {}
        lines:
          type: array
          minItems: 1
          maxItems: 2
          items:
            type: object
            additionalProperties: false
            required: [sku, quantity]
            properties:
              sku: {type: string}
              quantity: {type: integer, format: int64, minimum: 1, maximum: 1000000}
        address:
          allOf:
            - type: object
              required: [city]
              properties: {city: {type: string}, zip: {type: string, maxLength: 3}}
`

type line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

type order struct {
	CustomerID string `json:"customer_id"`
	Lines      []line `json:"lines"`
}

// newAPI serves document with handlers that note that they were reached and decode as generated code does.
func newAPI(t *testing.T, text string, more ...func(chi.Router)) *api {
	t.Helper()
	a := &api{logs: &buffer{}, registry: prometheus.NewRegistry()}
	r, err := httpapi.NewRouter(httpapi.Deps{
		Logger: observe.NewLogger(a.logs, slog.LevelDebug, observe.JSON, "test"), Registry: a.registry,
	})
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	require.NoError(t, err)
	httpapi.Mount(r, doc, httpapi.MountOptions{MaxBody: 4096}, func(r chi.Router) {
		ok := func(w http.ResponseWriter, r *http.Request) {
			a.reached++
			if r.Method == http.MethodPost {
				var body order
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					httpapi.WriteRequestError(w, r, err)
					return
				}
			}
			_, _ = io.WriteString(w, "{}")
		}
		r.Get("/v1/orders", ok)
		r.Post("/v1/orders", ok)
		r.Get("/v1/orders/{order_id}", ok)
	})
	for _, add := range more {
		add(r)
	}
	a.Handler = r
	return a
}

// do sends one request and decodes the problem, if the answer is one.
func (a *api) do(t *testing.T, r *http.Request) (*httptest.ResponseRecorder, httpapi.Problem) {
	t.Helper()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	var p httpapi.Problem
	if w.Code >= 400 {
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		require.Equal(t, w.Code, p.Status)
		require.NotEmpty(t, p.Title)
		require.NotEmpty(t, p.RequestID)
	}
	return w, p
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "k")
	return r
}
