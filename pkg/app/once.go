package app

import (
	"context"

	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// Once answers a request under its Idempotency-Key: effect, messages and the answer that fn gives commit in one
// transaction, and a second request with the key gets that answer. Operation is method and path; see httpapi for what
// counts as the same request.
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
	var answer httpapi.Response
	err = a.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		answer, _, err = a.Idempotency.Do(ctx, tx.Tx, request, func() (httpapi.Response, error) { return fn(ctx, tx) })
		return err
	})
	return answer, err
}
