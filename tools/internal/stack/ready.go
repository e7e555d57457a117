package stack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const readyPoll = 50 * time.Millisecond

// waitReady asks a service until it is ready. It fails at once when the process ends.
func (s *Stack) waitReady(ctx context.Context, p *process, life *run) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.ReadyTimeout)
	defer cancel()
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	answer := "no answer yet"
	for {
		select {
		case <-life.gone:
			return fmt.Errorf("%s ended before it was ready (%s); its log ends:\n%s", p.name, life.state, tail(p.logPath))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %s; its log ends:\n%s", p.name, ctx.Err(), answer, tail(p.logPath))
		case <-ticker.C:
		}
		ready, said := s.ask(ctx, p.addr)
		if ready {
			return nil
		}
		if ctx.Err() == nil {
			answer = said
		}
	}
}

func (s *Stack) ask(ctx context.Context, addr string) (ready bool, said string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false, err.Error()
	}
	res, err := s.http.Do(req)
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = res.Body.Close() }() // read as far as it is needed
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return false, err.Error()
	}
	return res.StatusCode == http.StatusOK, res.Status + " " + strings.TrimSpace(string(body))
}
