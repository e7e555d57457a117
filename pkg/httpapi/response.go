package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Response is a whole answer: what an idempotency key keeps.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSONResponse returns an answer with v as its JSON body. Header may be nil and is copied.
func JSONResponse(status int, header http.Header, v any) (Response, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return Response{}, fmt.Errorf("encode response: %w", err)
	}
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return Response{Status: status, Header: header, Body: append(body, '\n')}, nil
}

// Write sends the answer.
func (a Response) Write(w http.ResponseWriter) error {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if len(a.Body) > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	if _, err := w.Write(a.Body); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}
