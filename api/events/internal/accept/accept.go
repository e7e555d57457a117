package accept

import (
	"math"
	"unicode/utf8"
)

// maxDepth is how deeply the values of unknown fields may be nested.
const maxDepth = 16

// maxDigits is how many digits an integer may have, so that it fits 64 bits.
const maxDigits = 18

// Values of fields that no schema describes.
var (
	anyValue  = &node{kind: anything}
	anyObject = &node{kind: object}
	anyArray  = &node{kind: array, items: anyValue, most: math.MaxInt64}
)

// Accepts reports whether data is certainly one JSON value that the schema allows. If not, it may be one all the same.
func (c *Checker) Accepts(data []byte) bool {
	if c == nil {
		return false
	}
	r := reader{data: data}
	if !r.value(c.root) {
		return false
	}
	r.space()
	return r.at == len(data)
}

// reader reads a JSON text. Its methods take a token or value, and return false as soon as they do not know. What must not
// follow a token is seen by who takes the next one: 1.5 is the integer 1, after which no comma, bracket or end is found.
type reader struct {
	data []byte
	at   int
	// depth is how many unknown objects and arrays are open.
	depth int
}

func (r *reader) value(n *node) bool {
	switch n.kind {
	case object:
		return r.object(n)
	case array:
		return r.array(n)
	case text:
		return r.text(n)
	case integer:
		v, ok := r.integer()
		return ok && v >= n.least && v <= n.most
	case anything:
		return r.anything()
	default:
		return false
	}
}

func (r *reader) object(n *node) bool {
	if !r.take('{') {
		return false
	}
	if r.take('}') {
		return n.required == 0
	}
	var seen uint64
	for {
		name, ascii, ok := r.string()
		if !ok || !ascii || !r.take(':') {
			return false
		}
		value := anyValue
		for i := range n.properties {
			if n.properties[i].name == string(name) {
				if seen&(1<<i) != 0 {
					return false
				}
				seen |= 1 << i
				value = n.properties[i].node
				break
			}
		}
		if !r.value(value) {
			return false
		}
		if !r.take(',') {
			return r.take('}') && seen&n.required == n.required
		}
	}
}

func (r *reader) array(n *node) bool {
	if !r.take('[') {
		return false
	}
	var items int64
	if !r.take(']') {
		for {
			if !r.value(n.items) {
				return false
			}
			items++
			if !r.take(',') {
				break
			}
		}
		if !r.take(']') {
			return false
		}
	}
	return items >= n.least && items <= n.most
}

func (r *reader) text(n *node) bool {
	s, ascii, ok := r.string()
	if !ok {
		return false
	}
	length := len(s)
	if !ascii {
		length = utf8.RuneCount(s)
	}
	return int64(length) >= n.least && int64(length) <= n.most &&
		(n.pattern == nil || n.pattern.matches(s, ascii)) &&
		(!n.dateTime || instant(s))
}

// anything takes the value of an unknown field, which must be JSON and otherwise what it likes.
func (r *reader) anything() bool {
	r.space()
	if r.at == len(r.data) {
		return false
	}
	switch r.data[r.at] {
	case '{':
		return r.nested(anyObject)
	case '[':
		return r.nested(anyArray)
	case '"':
		_, _, ok := r.string()
		return ok
	case 't':
		return r.word("true")
	case 'f':
		return r.word("false")
	case 'n':
		return r.word("null")
	default:
		_, ok := r.integer()
		return ok
	}
}

func (r *reader) nested(n *node) bool {
	if r.depth == maxDepth {
		return false
	}
	r.depth++
	ok := r.value(n)
	r.depth--
	return ok
}

func (r *reader) space() {
	for r.at < len(r.data) && (r.data[r.at] == ' ' || r.data[r.at] == '\n' || r.data[r.at] == '\r' || r.data[r.at] == '\t') {
		r.at++
	}
}

func (r *reader) take(c byte) bool {
	r.space()
	if r.at == len(r.data) || r.data[r.at] != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) word(w string) bool {
	if len(r.data)-r.at < len(w) || string(r.data[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

// string takes a string without escapes, and returns what is between the quotes: UTF-8.
func (r *reader) string() (s []byte, ascii, ok bool) {
	if !r.take('"') {
		return nil, false, false
	}
	var all byte
	for i, c := range r.data[r.at:] {
		switch {
		case c == '"':
			s = r.data[r.at : r.at+i]
			r.at += i + 1
			ascii = all < utf8.RuneSelf
			return s, ascii, ascii || utf8.Valid(s)
		case c == '\\' || c < ' ':
			return nil, false, false
		}
		all |= c
	}
	return nil, false, false
}

// integer takes an integer that is written with digits alone.
func (r *reader) integer() (int64, bool) {
	r.space()
	start := r.at
	var v int64
	for r.at < len(r.data) && digit(r.data[r.at]) {
		if r.at-start == maxDigits {
			return 0, false
		}
		v = v*10 + int64(r.data[r.at]-'0')
		r.at++
	}
	digits := r.at - start
	return v, digits == 1 || digits > 1 && r.data[start] != '0'
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// instant reports whether s is a date-time of RFC 3339 in UTC: 2006-01-02T15:04:05Z, with a fraction or without. It does not know
// 29 February nor leap seconds.
func instant(s []byte) bool {
	const form = "0000-00-00T00:00:00"
	if len(s) <= len(form) || s[len(s)-1] != 'Z' {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' && !digit(s[i]) || form[i] != '0' && s[i] != form[i] {
			return false
		}
	}
	if fraction := s[len(form) : len(s)-1]; len(fraction) > 0 {
		if fraction[0] != '.' || len(fraction) == 1 {
			return false
		}
		for _, c := range fraction[1:] {
			if !digit(c) {
				return false
			}
		}
	}
	two := func(i int) int { return int(s[i]-'0')*10 + int(s[i+1]-'0') }
	days := [...]int{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	month, day := two(5), two(8)
	return month >= 1 && month <= 12 && day >= 1 && day <= days[month] && two(11) <= 23 && two(14) <= 59 && two(17) <= 59
}
