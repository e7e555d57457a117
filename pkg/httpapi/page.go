package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// maxCursor bounds a cursor that comes in, in bytes.
const maxCursor = 1024

type cursor struct {
	// Kind names the list and the shape of At, so that a cursor of another list or an older build is refused.
	Kind string          `json:"k"`
	At   json.RawMessage `json:"a"`
}

// EncodeCursor returns the opaque cursor of a position in the list named kind ("orders/1": a name and the version of
// T's shape).
func EncodeCursor[T any](kind string, at T) (string, error) {
	raw, err := json.Marshal(at)
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	body, err := json.Marshal(cursor{Kind: kind, At: raw})
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(body), nil
}

// DecodeCursor is the inverse of EncodeCursor. Whatever that did not make for this list is a 400 problem. A cursor is
// not signed: it can hold nothing that its bearer could not have asked for, and the caller checks what T means.
func DecodeCursor[T any](kind, text string) (T, error) {
	var at T
	refuse := func() (T, error) {
		var none T
		return none, BadRequest("the request does not match the API", FieldError{
			In: "query", Path: "cursor", Detail: `must be taken as it is from the Link header with rel="next" of the same list`,
		})
	}
	if len(text) > maxCursor {
		return refuse()
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || checkJSON(body) != nil {
		return refuse()
	}
	var c cursor
	if decodeStrict(body, &c) != nil || c.Kind != kind || decodeStrict(c.At, &at) != nil {
		return refuse()
	}
	// There is one way to write a position; anything else was made by hand.
	if again, err := EncodeCursor(kind, at); err != nil || again != text {
		return refuse()
	}
	return at, nil
}

func decodeStrict(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// After is the position that a request's cursor names in the list named kind, the zero one without a cursor; see DecodeCursor.
func After[T any](kind string, cursor *string) (at T, err error) {
	if cursor == nil {
		return at, nil
	}
	return DecodeCursor[T](kind, *cursor)
}

// Page cuts what was read, one item more than limit if there is a next page, and returns the Link header that leads there,
// or nil. at is an item's position in the list named kind.
func Page[Item, T any](ctx context.Context, kind string, items []Item, limit int, at func(Item) T) (shown []Item, link *string, err error) {
	if len(items) <= limit {
		return items, nil, nil
	}
	items = items[:limit]
	cursor, err := EncodeCursor(kind, at(items[limit-1]))
	if err != nil {
		return nil, nil, err
	}
	next := NextLink(ctx, cursor)
	return items, &next, nil
}

// NextLink is the Link header that leads from the request in ctx to its next page: the same path and query with
// another cursor. It is empty outside a router of NewRouter.
func NextLink(ctx context.Context, cursor string) string {
	x := exchangeFrom(ctx)
	if x == nil {
		return ""
	}
	next := x.url
	query := next.Query()
	query.Set("cursor", cursor)
	return fmt.Sprintf(`<%s?%s>; rel="next"`, next.EscapedPath(), query.Encode())
}
