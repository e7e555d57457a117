package stack

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
)

// ask returns nil when a service is ready, and otherwise what it says.
func (s *Stack) ask(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read as far as it is needed
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status + " " + strings.TrimSpace(string(body)))
	}
	return nil
}
