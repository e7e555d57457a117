package outbox

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
)

// send gives the batch to the sender and keeps the leases alive meanwhile, for as long as the sender keeps within its
// time. It returns what became of each item. An error means that the relay could not wait for that.
func (r *Relay) send(ctx context.Context, batch []item) ([]error, error) {
	errs := make([]error, len(batch))
	var events []event.Addressed
	var index []int                // of events in batch
	unreadable := map[lane]error{} // and what is behind it in its lane
	for i, it := range batch {
		if errs[i] = cmp.Or(unreadable[it.lane], it.err); errs[i] == nil {
			events, index = append(events, event.Addressed{Topic: it.topic, Event: it.event}), append(index, i)
		} else {
			unreadable[it.lane] = errs[i]
		}
	}
	if len(events) == 0 {
		return errs, nil
	}
	sendCtx, cancel := context.WithTimeout(ctx, r.opts.SendTimeout)
	defer cancel()
	done := make(chan []error, 1)
	if err := failpoint.After(nil, failpoint.RelayBeforeSend); err != nil {
		return nil, err
	}
	go func() { done <- r.sender.SendBatch(sendCtx, events) }()

	abandon := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(abandonAfter, func() { close(abandon) }) })()
	renew := time.NewTicker(r.opts.LeaseTTL / 3)
	defer renew.Stop()
	for {
		select {
		case results := <-done:
			if results != nil && len(results) != len(events) {
				err := fault.Permanentf("the sender answered %d of %d events", len(results), len(events))
				results = make([]error, len(events))
				for i := range results {
					results[i] = err
				}
			}
			for i, err := range results {
				errs[index[i]] = err
			}
			return errs, failpoint.After(nil, failpoint.RelayAfterSend)
		case <-renew.C:
			if sendCtx.Err() == nil {
				r.renewWhileSending(sendCtx, cancel)
			}
		case <-abandon:
			r.opts.Logger.WarnContext(ctx, "outbox: the sender does not return; its events stay and are sent again")
			return nil, fmt.Errorf("outbox: the sender did not return within %v after it was told to stop", abandonAfter)
		}
	}
}

// renewWhileSending keeps the leases, or has the sender stop when one was lost. When the database is away, they run out
// by themselves.
func (r *Relay) renewWhileSending(ctx context.Context, stop context.CancelFunc) {
	db, cancel := context.WithTimeout(ctx, r.opts.LeaseTTL/3)
	defer cancel()
	if lost, err := r.leases.renew(db); err == nil && lost {
		stop()
	}
}

// settle books what became of a batch and returns how many were sent. A lane stops at its first row that was not.
func (r *Relay) settle(ctx context.Context, b *batch, errs []error) int {
	sent, stopped := 0, map[lane]bool{}
	for i, it := range b.items {
		err := errs[i]
		_, try := b.tries[it.seq]
		switch {
		case err == nil:
			sent++
			r.sent = append(r.sent, it.seq)
			if try {
				delete(r.paused.lanes, it.lane)
				b.freed = append(b.freed, it.seq)
			}
			if stopped[it.lane] && !r.broken {
				r.broken = true
				r.opts.Logger.ErrorContext(ctx, "outbox: the sender sent an event although one before it was not sent; their order is lost",
					"topic", it.topic, "key", it.key, "seq", it.seq, "event_id", it.event.ID)
			}
			continue
		case stopped[it.lane]:
			continue
		}
		stopped[it.lane] = true
		first, kept := r.paused.add(it.lane, it.seq, r.opts.Now())
		if !kept {
			b.end = min(b.end, it.seq)
		}
		// One line for a key's first failure, of the first such key in a batch: an outage is not one line an event.
		if first && (len(stopped) == 1 || fault.KindOf(err) == fault.Permanent) {
			level := slog.LevelWarn
			if fault.KindOf(err) == fault.Permanent {
				level = slog.LevelError
			}
			r.opts.Logger.Log(ctx, level, "outbox: an event could not be sent; its key waits", "topic", it.topic, "key", it.key,
				"seq", it.seq, "event_id", it.event.ID, "event_type", it.event.Type, "kind", fault.KindOf(err).String(), "error", err)
		}
	}
	r.metrics.sent.Add(float64(sent))
	r.metrics.errs.Add(float64(len(stopped)))
	return sent
}

// removeSent deletes what was acknowledged. What it cannot delete stays noted, and nothing is looked for before it is.
func (r *Relay) removeSent(ctx context.Context) error {
	if len(r.sent) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if err := remove(ctx, r.db, r.sent); err != nil {
		return err
	}
	r.sent = r.sent[:0]
	return nil
}
