package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/orderflow/orderflow/pkg/coalesce"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// onceAttempts is how often a request's own transaction is tried when another process is in its way.
const onceAttempts = 3

// onceCall is one request for Once.
type onceCall struct {
	request httpapi.IdempotentRequest
	fn      func(ctx context.Context, tx *outbox.Tx) (httpapi.Response, error)
}

type onceCalls = []*coalesce.Call[onceCall, httpapi.Response]

// Once answers a request under its Idempotency-Key: effect, messages and the answer that fn gives commit in one
// transaction, and a second request with the key gets that answer. Operation is method and path; see httpapi for what
// counts as the same request.
//
// Requests that come at the same time share a transaction. So fn may be called more than once, with nothing of the
// calls before it left; and what it reads and writes should go through database.Table, or be read before, so that many
// cost what one does. When an error of fn comes before it changed anything, it is only that request's. Beyond those that
// may wait, a request is answered 503 at once, and nothing of it was done.
func (a *App) Once(ctx context.Context, key, operation string, body any,
	fn func(ctx context.Context, tx *outbox.Tx) (httpapi.Response, error),
) (httpapi.Response, error) {
	request, err := httpapi.NewIdempotentRequest(ctx, key, operation, body, a.Events.Now())
	if err != nil {
		return httpapi.Response{}, err
	}
	release, err := a.Idempotency.Begin(request)
	if err != nil {
		return httpapi.Response{}, err
	}
	defer release()
	answer, err := a.once.Do(ctx, onceCall{request, fn})
	if errors.Is(err, coalesce.ErrFull) {
		err = httpapi.NewProblem(http.StatusServiceUnavailable, "too many requests at once").WithHeader("Retry-After", "1")
	}
	return answer, err
}

// answerAll answers requests in one transaction, or where that does not commit, each in its own.
func (a *App) answerAll(ctx context.Context, calls onceCalls) error {
	err := a.answer(ctx, calls)
	if len(calls) == 1 || err == nil || fault.KindOf(err) == fault.Unavailable {
		for attempt := 1; attempt < onceAttempts && errors.Is(err, httpapi.ErrTwin); attempt++ {
			err = a.answer(ctx, calls)
		}
		return err
	}
	a.Runtime.Logger.DebugContext(ctx, "requests that shared a transaction go on by themselves", "requests", len(calls), "error", err)
	for _, c := range calls {
		if err := a.answerAll(c.Ctx, onceCalls{c}); err != nil {
			c.Err = err
		}
	}
	return nil
}

func (a *App) answer(ctx context.Context, calls onceCalls) error {
	exchanges := make([]*httpapi.Exchange, len(calls))
	err := a.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		var dirty error
		for i, c := range calls {
			exchanges[i] = &httpapi.Exchange{Request: c.In.request, Do: func() (httpapi.Response, error) {
				if dirty != nil {
					return httpapi.Response{}, dirty
				}
				writes, queued := tx.Writes(), tx.Mark()
				// The end of one caller's patience must not break off a statement of all: that would cost the connection.
				answer, err := guarded(func() (httpapi.Response, error) {
					return c.In.fn(tx.Within(context.WithoutCancel(c.Ctx)), tx)
				})
				if err != nil && (tx.Writes() != writes || tx.Mark() != queued) {
					dirty = err
				}
				return answer, err
			}}
		}
		if err := a.Idempotency.Do(ctx, tx.Tx, exchanges); err != nil {
			return err
		}
		return failpoint.After(dirty, failpoint.RequestBeforeCommit)
	})
	err = failpoint.After(err, failpoint.RequestAfterCommit)
	for i, c := range calls {
		if c.Err = nil; err == nil {
			c.Out, c.Err = exchanges[i].Answer, exchanges[i].Err
		}
	}
	return err
}

// guarded makes a panic an error: it is one request's, not that of those that share its transaction.
func guarded(fn func() (httpapi.Response, error)) (answer httpapi.Response, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return fn()
}
