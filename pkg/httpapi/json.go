package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep a body's arrays and objects nest.
const maxDepth = 64

// maxPointer bounds the path that an answer gives back, which the caller wrote.
const maxPointer = 256

// checkJSON refuses what later readers of the body understand differently or not at all: anything after the value,
// duplicate names (the last wins in Go, the first elsewhere), invalid UTF-8 and NUL (PostgreSQL stores neither),
// numbers beyond float64, and nesting that would cost a stack.
func checkJSON(body []byte) *Problem {
	if at := invalidUTF8(body); at >= 0 {
		return BadRequest(fmt.Sprintf("the body must be UTF-8, is not at byte %d", at))
	}
	s := scanner{body: body, dec: json.NewDecoder(bytes.NewReader(body))}
	s.dec.UseNumber()
	if p := s.value(0); p != nil {
		return p
	}
	if _, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		return BadRequest(fmt.Sprintf("the body must be one JSON value, more follows at byte %d", s.dec.InputOffset()))
	}
	return nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

type scanner struct {
	body []byte
	dec  *json.Decoder
	path []string
}

func (s *scanner) mistake(format string, args ...any) *Problem {
	return BadRequest("the request does not match the API", FieldError{In: "body", Path: pointer(s.path), Detail: fmt.Sprintf(format, args...)})
}

func (s *scanner) token() (json.Token, *Problem) {
	token, err := s.dec.Token()
	if err == nil {
		return token, nil
	}
	// The decoder's own offsets are relative to one thing or another; a pass over the whole says the byte.
	var whole json.RawMessage
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(s.body, &whole), &syntax) {
		return nil, BadRequest("the body is not JSON")
	}
	if int(syntax.Offset) >= len(s.body) && strings.HasPrefix(syntax.Error(), "unexpected end") {
		return nil, BadRequest(fmt.Sprintf("the body is not JSON: it ends too early, after byte %d", syntax.Offset-1))
	}
	return nil, BadRequest(fmt.Sprintf("the body is not JSON: %s at byte %d", syntax.Error(), syntax.Offset-1))
}

func (s *scanner) value(depth int) *Problem {
	token, p := s.token()
	if p != nil {
		return p
	}
	switch t := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return s.mistake("must nest at most %d deep", maxDepth)
		}
		if t == '{' {
			return s.object(depth)
		}
		return s.array(depth)
	case string:
		if strings.ContainsRune(t, 0) {
			return s.mistake("must not contain the NUL character")
		}
	case json.Number:
		if f, err := t.Float64(); err != nil || math.IsInf(f, 0) {
			return s.mistake("must be a number between -1.8e308 and 1.8e308")
		}
	}
	return nil
}

func (s *scanner) object(depth int) *Problem {
	seen := map[string]bool{}
	for s.dec.More() {
		token, p := s.token()
		if p != nil {
			return p
		}
		name, _ := token.(string)
		s.path = append(s.path, name)
		if seen[name] {
			return s.mistake("must not be given twice")
		}
		seen[name] = true
		if strings.ContainsRune(name, 0) {
			return s.mistake("must not contain the NUL character")
		}
		if p := s.value(depth + 1); p != nil {
			return p
		}
		s.path = s.path[:len(s.path)-1]
	}
	_, p := s.token()
	return p
}

func (s *scanner) array(depth int) *Problem {
	for i := 0; s.dec.More(); i++ {
		s.path = append(s.path, strconv.Itoa(i))
		if p := s.value(depth + 1); p != nil {
			return p
		}
		s.path = s.path[:len(s.path)-1]
	}
	_, p := s.token()
	return p
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// pointer is an RFC 6901 JSON pointer.
func pointer(path []string) string {
	var b strings.Builder
	for _, step := range path {
		b.WriteByte('/')
		b.WriteString(pointerEscaper.Replace(step))
	}
	return clip(b.String())
}

// clip keeps what came from the caller short and valid in the answer.
func clip(text string) string {
	if len(text) > maxPointer {
		text = strings.ToValidUTF8(text[:maxPointer], "") + "..."
	}
	return text
}

// pointerOfField turns encoding/json's "lines.quantity" into a pointer; it knows no indexes.
func pointerOfField(field string) string {
	if field == "" {
		return ""
	}
	return pointer(strings.Split(field, "."))
}

// goKind says a Go type in JSON's words.
func goKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number of %d bits, written without fraction or exponent", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	default:
		return "an object"
	}
}
