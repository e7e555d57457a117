package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
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
//	x := &httpapi.Exchange{Request: req, Do: func() (httpapi.Response, error) { … effect through tx … }}
//	err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error { return idem.Do(ctx, tx, []*httpapi.Exchange{x}) })
//
// again if that is ErrTwin. Do alone makes the effect happen once, because the key's row commits with it; Begin spares a
// request whose twin is at work in this process the wait for it, and answers 409.
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

func (r IdempotentRequest) at() [2]string { return [2]string{r.Client, r.Key} }

func inFlight() error {
	return Conflict("a request with this Idempotency-Key is being worked on; ask again").WithHeader("Retry-After", "1")
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
	at := req.at()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.inFlight[at] {
		return nil, inFlight()
	}
	i.inFlight[at] = true
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.inFlight, at)
	}), nil
}

// Exchange is a request and its answer.
type Exchange struct {
	Request IdempotentRequest
	// Do makes the answer, be it a success or a refusal (Problem.Response), with its effect. Its error is Err, and then
	// nothing is kept.
	Do func() (Response, error)

	// Answer is that of Do, or one that was kept, marked with the header Idempotency-Replayed; then Replayed is true.
	Answer   Response
	Replayed bool
	// Err is why there is no answer. A kept key of another request is a 422 problem.
	Err error
}

// ErrTwin: another process has just answered one of the requests. The transaction is to be done again, and will find that
// answer.
var ErrTwin = fault.Transientf("another process has answered a request with this Idempotency-Key meanwhile")

// Do answers the requests: with what is kept under their keys, or what their Do gives, which is kept in tx. It costs two
// statements however many they are, beside those of Do. Its error undoes tx, and so does ErrTwin, which may come with the
// commit. Of requests with one key, which
// Begin does not let come here together, only the first is answered.
func (i *Idempotency) Do(ctx context.Context, tx *database.Tx, exchanges []*Exchange) error {
	byKey := make(map[[2]string]*Exchange, len(exchanges))
	for _, x := range exchanges {
		x.Answer, x.Replayed, x.Err = Response{}, false, nil
		if at := x.Request.at(); byKey[at] == nil {
			byKey[at] = x
		} else {
			x.Err = inFlight()
		}
	}
	if err := replay(ctx, tx, byKey); err != nil {
		return fmt.Errorf("read kept answers: %w", err)
	}
	var fresh []*Exchange
	for _, x := range exchanges {
		if x.Err != nil || x.Replayed {
			continue
		}
		if x.Answer, x.Err = x.Do(); x.Err == nil {
			fresh = append(fresh, x)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return i.keep(ctx, tx, fresh)
}

// replay gives those exchanges whose keys are kept their answers.
func replay(ctx context.Context, tx *database.Tx, byKey map[[2]string]*Exchange) error {
	clients, keys := make([]string, 0, len(byKey)), make([]string, 0, len(byKey))
	for at := range byKey {
		clients, keys = append(clients, at[0]), append(keys, at[1])
	}
	values, args := tx.Dialect().Columns(database.Texts(clients), database.Texts(keys))
	var expired []*Exchange
	err := tx.Later(ctx, database.Statement{
		Query: `SELECT client, request_key, fingerprint, status, headers, body, expires_at
			FROM idempotency_keys WHERE (client, request_key) IN (` + values + `)`, Args: args,
		Row: func(row database.Scanner) error {
			var at [2]string
			var fingerprint, headers string
			var answer Response
			var expires time.Time
			if err := row.Scan(&at[0], &at[1], &fingerprint, &answer.Status, &headers, &answer.Body, &expires); err != nil {
				return err
			}
			if x := byKey[at]; !expires.After(x.Request.At) {
				expired = append(expired, x)
				return nil
			}
			return byKey[at].replay(answer, fingerprint, headers)
		},
	})
	if err != nil {
		return err
	}
	if err := tx.Wait(ctx); err != nil {
		return err
	}
	for _, x := range expired { // seldom: their keys are free again
		_, err := tx.ExecContext(ctx, `DELETE FROM idempotency_keys WHERE client = $1 AND request_key = $2 AND expires_at <= $3`,
			x.Request.Client, x.Request.Key, x.Request.At)
		if err != nil {
			return err
		}
	}
	return nil
}

// replay gives the exchange an answer that was kept for a request with its key.
func (x *Exchange) replay(answer Response, fingerprint, headers string) error {
	if fingerprint != x.Request.Fingerprint {
		x.Err = Unprocessable("this Idempotency-Key has been used for another request", FieldError{
			In: "header", Path: "Idempotency-Key", Detail: "must be new for a new request",
		})
		return nil
	}
	if err := json.Unmarshal([]byte(headers), &answer.Header); err != nil {
		return err
	}
	if answer.Header == nil {
		answer.Header = http.Header{}
	}
	answer.Header.Set(HeaderReplayed, "true")
	x.Answer, x.Replayed = answer, true
	return nil
}

// keep writes the answers, in one order of keys, so that two processes never wait for each other in a circle. A row that
// has come meanwhile is a twin's.
func (i *Idempotency) keep(ctx context.Context, tx *database.Tx, fresh []*Exchange) error {
	slices.SortFunc(fresh, func(a, b *Exchange) int {
		return cmp.Or(strings.Compare(a.Request.Client, b.Request.Client), strings.Compare(a.Request.Key, b.Request.Key))
	})
	n := len(fresh)
	clients, keys, fingerprints, headers := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	statuses, bodies, created, expires := make([]int64, n), make([][]byte, n), make([]time.Time, n), make([]time.Time, n)
	for k, x := range fresh {
		text, err := json.Marshal(x.Answer.Header)
		if err != nil {
			return err
		}
		clients[k], keys[k], fingerprints[k] = x.Request.Client, x.Request.Key, x.Request.Fingerprint
		statuses[k], headers[k], bodies[k] = int64(x.Answer.Status), string(text), append([]byte{}, x.Answer.Body...) // nil would be NULL
		created[k], expires[k] = x.Request.At, x.Request.At.Add(i.ttl)
	}
	values, args := tx.Dialect().Columns(database.Texts(clients), database.Texts(keys), database.Texts(fingerprints),
		database.Ints(statuses), database.Texts(headers), database.Blobs(bodies), database.Times(created), database.Times(expires))
	return tx.Later(ctx, database.Statement{
		Query: `INSERT INTO idempotency_keys (client, request_key, fingerprint, status, headers, body, created_at, expires_at) ` + values, Args: args,
		Failed: func(err error) error {
			if database.IsUnique(err) {
				err = ErrTwin
			}
			return fmt.Errorf("keep answers: %w", err)
		},
	})
}

// Purge deletes the keys that expired at now or before, and returns how many. It deletes at most limit in a transaction,
// until none are left. A key that a request takes for itself meanwhile stays; see database.DB.Purge.
func (i *Idempotency) Purge(ctx context.Context, db *database.DB, now time.Time, limit int) (int, error) {
	return db.Purge(ctx, "idempotency_keys", "expires_at", "", now, limit)
}
