package outbox

import (
	"encoding/json"
	"strings"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// The column headers is a JSON object of texts, for whoever reads the table. Nearly all of them are plain ASCII, and are
// written and read here as they stand; encoding/json does the others, and says what is wrong with what is no such object.

// plain tells whether a text is its own JSON between quotes, also as encoding/json writes it.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// appendText appends a text as JSON.
func appendText(b []byte, text string) ([]byte, error) {
	if plain(text) {
		return append(append(append(b, '"'), text...), '"'), nil
	}
	quoted, err := json.Marshal(text)
	return append(b, quoted...), err
}

// encodeHeaders returns an event's headers as JSON.
func encodeHeaders(e event.Event) (_ string, err error) {
	b := append(make([]byte, 0, 512), '{')
	for name, value := range e.AllHeaders() {
		if len(b) > 1 {
			b = append(b, ',')
		}
		if b, err = appendText(b, name); err != nil {
			return "", err
		}
		if b, err = appendText(append(b, ':'), value); err != nil {
			return "", err
		}
	}
	return string(append(b, '}')), nil
}

// decodeHeaders is the inverse.
func decodeHeaders(text string) (map[string]string, error) {
	if h, ok := plainHeaders(text); ok {
		return h, nil
	}
	var h map[string]string
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, fault.Permanentf("the column headers is not a JSON object of texts: %w", err)
	}
	return h, nil
}

// plainHeaders reads an object of plain texts without white space; ok is false for any other.
func plainHeaders(text string) (h map[string]string, ok bool) {
	rest, ok := strings.CutPrefix(text, "{")
	if !ok || rest == "}" {
		return nil, false
	}
	h = make(map[string]string, 16)
	for {
		var name, value string
		if name, rest, ok = cutText(rest); !ok || !strings.HasPrefix(rest, ":") {
			return nil, false
		}
		if value, rest, ok = cutText(rest[1:]); !ok || rest == "" {
			return nil, false
		}
		h[name] = value
		switch {
		case rest == "}":
			return h, true
		case rest[0] != ',':
			return nil, false
		}
		rest = rest[1:]
	}
}

// cutText cuts a plain text in quotes off.
func cutText(text string) (cut, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", false
	}
	cut, rest, ok = strings.Cut(text[1:], `"`)
	return cut, rest, ok && plain(cut)
}
