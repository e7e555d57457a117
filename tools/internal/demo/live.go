package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/tools/client"
)

// liveCustomer is who is followed live; breakAfter is after how many notifications the connection is broken once.
const (
	liveCustomer = "ada"
	breakAfter   = 3
)

// follower is a customer who watches.
type follower struct {
	stop context.CancelFunc
	done chan error

	mu     sync.Mutex
	heard  []notificationapi.Notification
	at     []float64
	breaks int
	wrong  []string
}

// follow opens a customer's stream and reads it in the background, through a break, until its stop is called.
func (s *show) follow(ctx context.Context, customer string) (*follower, error) {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{stop: stop, done: make(chan error, 1)}
	opened := make(chan string, 1)
	go func() {
		after := ""
		for {
			err := s.system.Follow(ctx, customer, after, func(position string) {
				if after == "" {
					after = position
					opened <- position
				}
			}, func(e client.StreamEvent) error {
				after = e.ID
				return f.take(e, s.since())
			})
			if ctx.Err() != nil {
				err = nil
			}
			if ctx.Err() == nil && (err == nil || errors.Is(err, io.EOF)) {
				continue // the break: on from the last id
			}
			f.done <- err
			return
		}
	}()
	select {
	case <-opened:
		return f, nil
	case err := <-f.done:
		stop()
		return nil, err
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

func (f *follower) take(e client.StreamEvent, at float64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Name != "notification" {
		f.wrong = append(f.wrong, fmt.Sprintf("the stream said %s: %s", e.Name, e.Data))
		return nil
	}
	var n notificationapi.Notification
	if err := json.Unmarshal([]byte(e.Data), &n); err != nil {
		f.wrong = append(f.wrong, err.Error())
		return nil
	}
	f.heard, f.at = append(f.heard, n), append(f.at, at)
	if len(f.heard) == breakAfter {
		f.breaks++
		return client.ErrStop
	}
	return nil
}

// hear waits until the follower has heard what the list has, and holds the two against each other.
func (s *show) hear(ctx context.Context, f *follower) {
	var list []notificationapi.Notification
	err := s.until(ctx, func(ctx context.Context) (err error) {
		if list, err = s.system.AllNotifications(ctx, liveCustomer); err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		// Three orders: placed and ended each, and one refund.
		if len(list) < 7 || len(f.heard) < len(list) {
			err = fmt.Errorf("%d of %d notifications were heard", len(f.heard), len(list))
		}
		return err
	})
	f.stop()
	if err = errors.Join(err, <-f.done); err != nil {
		s.fail("live notifications: %s", err)
	}
	live := Live{Customer: liveCustomer, Breaks: f.breaks}
	for i, n := range f.heard {
		live.Heard = append(live.Heard, Moment{After: f.at[i], Text: n.Title + ": order " + short(n.OrderID)})
		if i >= len(list) || n != list[len(list)-1-i] {
			f.wrong = append(f.wrong, fmt.Sprintf("notification %s was heard as number %d, which the list does not say", n.ID, i+1))
		}
	}
	for _, wrong := range f.wrong {
		s.fail("live notifications: %s", wrong)
	}
	live.OK = err == nil && len(f.wrong) == 0
	s.report.Live = live
}

// short is an order's id for people: its end, for its beginning is the time.
func short(id string) string {
	if len(id) > 8 {
		return "…" + id[len(id)-8:]
	}
	return id
}
