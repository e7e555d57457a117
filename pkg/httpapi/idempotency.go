package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// HeaderReplayed says that an answer is an earlier request's.
const HeaderReplayed = "Idempotency-Replayed"

// DefaultIdempotencyTTL is how long a key is kept.
const DefaultIdempotencyTTL = 24 * time.Hour

// maxIdempotencyKey bounds a key's length.
const maxIdempotencyKey = 255

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table idempotency_keys: db.Migrate(ctx, "httpapi", httpapi.Migrations).
var Migrations = database.Folder(files)

// Idempotency keeps answers under the keys that clients sent with their requests (IETF draft
// idempotency-key-header-07). A handler is
//
//	release, err := idem.Begin(req)
//	if err != nil {
//		return err
//	}
//	defer release()
//	err = outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
//		answer, _, err = idem.Do(ctx, tx.Tx, req, func() (httpapi.Response, error) { … effect through tx … })
//		return err
//	})
//
// Do alone makes the effect happen once, because the key's row commits with it; Begin spares a request whose twin is at
// work in this process the wait for it, and answers 409.
type Idempotency struct {
	ttl time.Duration

	mu       sync.Mutex
	inFlight map[[2]string]bool
}

// NewIdempotency returns an Idempotency whose keys expire after ttl; zero means DefaultIdempotencyTTL.
func NewIdempotency(ttl time.Duration) *Idempotency {
	if ttl == 0 {
		ttl = DefaultIdempotencyTTL
	}
	return &Idempotency{ttl: ttl, inFlight: map[[2]string]bool{}}
}

// IdempotentRequest is a request as its key sees it; make it with NewIdempotentRequest.
type IdempotentRequest struct {
	// Client owns the key: two clients' equal keys are two keys.
	Client string
	Key    string
	// Fingerprint is what must be the same for the key to be used again.
	Fingerprint string
	// At is now.
	At time.Time
}

// NewIdempotentRequest checks the header Idempotency-Key, quoted as the draft has it or not, and takes the request's
// fingerprint: the caller in ctx, the operation with its path ("POST /v1/orders"), and the body as JSON, where the
// order of names and white space mean nothing. A missing or malformed key is a 400 problem.
func NewIdempotentRequest(ctx context.Context, header, operation string, body any, at time.Time) (IdempotentRequest, error) {
	key, p := parseIdempotencyKey(header)
	if p != nil {
		return IdempotentRequest{}, p
	}
	client := CallerFrom(ctx).String()
	fingerprint, err := fingerprint(client, operation, body)
	if err != nil {
		return IdempotentRequest{}, err
	}
	return IdempotentRequest{Client: client, Key: key, Fingerprint: fingerprint, At: at.UTC()}, nil
}

func parseIdempotencyKey(header string) (string, *Problem) {
	refuse := func(detail string) (string, *Problem) {
		return "", BadRequest("the request does not match the API", FieldError{In: "header", Path: "Idempotency-Key", Detail: detail})
	}
	key := strings.TrimSpace(header)
	if key == "" {
		return refuse("is required: a value of the client's own, the same when it sends the same request again")
	}
	if strings.HasPrefix(key, `"`) {
		// A string of structured fields (RFC 8941): \" and \\ are its only escapes.
		inner, closed := strings.CutSuffix(key[1:], `"`)
		bare := strings.NewReplacer(`\\`, "", `\"`, "").Replace(inner)
		if !closed || strings.ContainsAny(bare, `"\`) {
			return refuse("must be a string in double quotes, or without any")
		}
		key = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(inner)
	}
	if key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return refuse(fmt.Sprintf("must be 1 to %d printable ASCII characters", maxIdempotencyKey))
	}
	return key, nil
}

func fingerprint(client, operation string, body any) (string, error) {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return "", fmt.Errorf("fingerprint: %w", err)
		}
	}
	var canonical any
	if len(bytes.TrimSpace(raw)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // a float64 would make two large numbers one
		if err := dec.Decode(&canonical); err != nil {
			return "", BadRequest("the body is not JSON: " + err.Error())
		}
	}
	// A JSON array keeps the parts apart whatever they contain; Marshal sorts names.
	text, err := json.Marshal([]any{client, operation, canonical})
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Begin claims the request's key in this process until release is called, which may be more than once. While it is
// claimed already, Begin returns a 409 problem.
func (i *Idempotency) Begin(req IdempotentRequest) (release func(), err error) {
	at := [2]string{req.Client, req.Key}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.inFlight[at] {
		return nil, Conflict("a request with this Idempotency-Key is being worked on; ask again").WithHeader("Retry-After", "1")
	}
	i.inFlight[at] = true
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.inFlight, at)
	}), nil
}

// Do returns the answer kept under the request's key, marked with the header Idempotency-Replayed, or calls fn and
// keeps its answer in tx, be it a success or a refusal (Problem.Response). A kept key of another request is a 422
// problem. When fn returns an error nothing is kept, and the caller must let tx roll back.
//
// A request whose twin is in another transaction waits for that one to end: the twins' row is one.
func (i *Idempotency) Do(ctx context.Context, tx *database.Tx, req IdempotentRequest, fn func() (Response, error)) (answer Response, replayed bool, err error) {
	claimed, err := i.claim(ctx, tx, req)
	if err != nil {
		return Response{}, false, err
	}
	if !claimed {
		answer, err := kept(ctx, tx, req)
		return answer, err == nil, err
	}
	answer, err = fn()
	if err != nil {
		return Response{}, false, err
	}
	headers, err := json.Marshal(answer.Header)
	if err != nil {
		return Response{}, false, fmt.Errorf("keep answer: %w", err)
	}
	body := answer.Body
	if body == nil {
		body = []byte{} // nil would be NULL
	}
	_, err = tx.ExecContext(ctx, `UPDATE idempotency_keys SET status = $3, headers = $4, body = $5 WHERE client = $1 AND request_key = $2`,
		req.Client, req.Key, answer.Status, string(headers), body)
	if err != nil {
		return Response{}, false, fmt.Errorf("keep answer: %w", err)
	}
	return answer, false, nil
}

// claim writes the key's row unless a live one is there.
func (i *Idempotency) claim(ctx context.Context, tx *database.Tx, req IdempotentRequest) (bool, error) {
	result, err := tx.ExecContext(ctx, `
		INSERT INTO idempotency_keys (client, request_key, fingerprint, status, headers, body, created_at, expires_at)
		VALUES ($1, $2, $3, 0, '{}', $4, $5, $6)
		ON CONFLICT (client, request_key) DO UPDATE
		SET fingerprint = excluded.fingerprint, status = 0, headers = '{}', body = excluded.body,
		    created_at = excluded.created_at, expires_at = excluded.expires_at
		WHERE idempotency_keys.expires_at <= excluded.created_at`,
		req.Client, req.Key, req.Fingerprint, []byte{}, req.At, req.At.Add(i.ttl))
	if err != nil {
		return false, fmt.Errorf("claim idempotency key: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("claim idempotency key: %w", err)
	}
	return n == 1, nil
}

func kept(ctx context.Context, tx *database.Tx, req IdempotentRequest) (Response, error) {
	var answer Response
	var fingerprint, headers string
	err := tx.QueryRowContext(ctx, `SELECT fingerprint, status, headers, body FROM idempotency_keys WHERE client = $1 AND request_key = $2`,
		req.Client, req.Key).Scan(&fingerprint, &answer.Status, &headers, &answer.Body)
	if err != nil {
		return Response{}, fmt.Errorf("read kept answer: %w", err)
	}
	if fingerprint != req.Fingerprint {
		return Response{}, Unprocessable("this Idempotency-Key has been used for another request", FieldError{
			In: "header", Path: "Idempotency-Key", Detail: "must be new for a new request",
		})
	}
	if err := json.Unmarshal([]byte(headers), &answer.Header); err != nil {
		return Response{}, fmt.Errorf("read kept answer: %w", err)
	}
	if answer.Header == nil {
		answer.Header = http.Header{}
	}
	answer.Header.Set(HeaderReplayed, "true")
	return answer, nil
}

// Purge deletes the keys that expired at now or before, and returns how many. It deletes at most limit in a transaction,
// until none are left. A key that a request takes for itself meanwhile stays; see database.DB.Purge.
func (i *Idempotency) Purge(ctx context.Context, db *database.DB, now time.Time, limit int) (int, error) {
	return db.Purge(ctx, "idempotency_keys", "expires_at", now, limit)
}
