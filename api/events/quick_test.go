package events_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
)

// author writes messages by a schema, with mistakes: the share wrong of all decisions is taken wrongly.
type author struct {
	*rand.Rand
	wrong float64
	out   []byte
}

func (a *author) errs() bool { return a.Float64() < a.wrong }

func pick[T any](a *author, of ...T) T { return of[a.IntN(len(of))] }

// junk is JSON of any kind, and what only looks like it.
var junk = []string{
	`null`, `true`, `false`, `0`, `-0`, `-1`, `1.0`, `1.5`, `1e0`, `1E400`, `1e999999`, `01`, `+1`, `.5`, `1.`, `0x1`, `NaN`, `truefalse`, `nul`, `1 2`,
	`999999999999999999`, `9999999999999999999`, `9007199254740991`, `9007199254740992`, strings.Repeat("9", 41), `1` + strings.Repeat("0", 400),
	`""`, `" "`, `"a"`, `"A"`, `"\u0041"`, `"\ud800"`, `"\x"`, `"\n"`, "\"\n\"", "\"\x00\"", "\"\x7f\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\xaf\"", `"ü"`, `"😀"`, `"a""b"`, `"`, `'a'`,
	`[]`, `{}`, `[1,]`, `[,1]`, `[1 2]`, `[[[]],{"a":[{}]}]`, `{"a":1,"a":"b"}`, `{"a":1,}`, `{"a"}`, `{a:1}`, `{1:1}`, `[1.5]`, `[`, `{`, `]`, `}`, ``,
	strings.Repeat("[", 15) + strings.Repeat("]", 15), strings.Repeat("[", 17) + strings.Repeat("]", 17), strings.Repeat(`{"a":`, 16) + `1` + strings.Repeat("}", 16),
	strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), "\ufeff1", "//\n1", `"2026-02-29T00:00:00Z"`,
}

func (a *author) write(s string) {
	if a.errs() {
		a.out = append(a.out, pick(a, " ", "\n", "\t", "\r ", "\v", "\u00a0", "\x00", ",")...)
	} else if a.IntN(20) == 0 {
		a.out = append(a.out, pick(a, " ", "\n", "\t", "\r\n")...)
	}
	a.out = append(a.out, s...)
}

func (a *author) value(s *jsonschema.Schema) {
	for s.Ref != nil {
		s = s.Ref
	}
	if a.errs() {
		a.write(pick(a, junk...))
		return
	}
	switch s.Types.ToStrings()[0] {
	case "object":
		a.object(s)
	case "array":
		least, most := bounds(s.MinItems, s.MaxItems, 60)
		a.write("[")
		for i := range a.around(least, most, 3) {
			if i > 0 {
				a.write(",")
			}
			a.value(s.Items2020)
		}
		a.write("]")
	case "string":
		a.text(s)
	case "integer":
		least, most := s.Minimum.Num().Int64(), s.Maximum.Num().Int64()
		v := strconv.FormatInt(pick(a, least, least+1, most, most-1, least+a.Int64N(most-least)), 10)
		if a.errs() {
			v = pick(a, strconv.FormatInt(least-1, 10), strconv.FormatInt(most+1, 10), v+".0", v+"e0", v+"0", "-"+v, "0"+v, v+"."+v, v+"E-1")
		}
		a.write(v)
	}
}

func bounds(least, most *int, none int) (from, to int) {
	from, to = 0, none
	if least != nil {
		from = *least
	}
	if most != nil {
		to = *most
	}
	return from, to
}

// around is a length within bounds, mostly a small one, or one beyond them by mistake.
func (a *author) around(least, most, usual int) int {
	if a.errs() {
		return max(0, pick(a, least-1, most+1, most+2, 2*most))
	}
	if a.IntN(8) == 0 {
		return pick(a, least, least+1, most-1, most)
	}
	return least + a.IntN(min(most-least, usual)+1)
}

func (a *author) object(s *jsonschema.Schema) {
	names := slices.Sorted(maps.Keys(s.Properties))
	a.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if a.errs() {
		names = names[a.IntN(len(names)):]
	}
	if a.errs() {
		names = append(names, pick(a, names...)) // Twice.
	}
	for a.IntN(4) == 0 {
		names = slices.Insert(names, a.IntN(len(names)+1), pick(a, "later", "Order_ID", "", "ü", "a b"))
	}
	a.write("{")
	for i, name := range names {
		if i > 0 {
			a.write(",")
		}
		quoted := strconv.Quote(name)
		if name != "" && a.errs() {
			quoted = pick(a, fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:]), `"\`+name+`"`, "\""+name+"\xff\"", `"`+name, strings.ToUpper(quoted))
		}
		a.write(quoted)
		a.write(":")
		if field, ok := s.Properties[name]; ok {
			a.value(field)
		} else {
			a.write(pick(a, `1`, `"x"`, `true`, `null`, `{"any":["thing",{}]}`))
		}
	}
	a.write("}")
}

// text writes one that matches, if one is found in a few attempts.
func (a *author) text(s *jsonschema.Schema) {
	if s.Format != nil {
		a.write(`"` + a.instant() + `"`)
		return
	}
	alphabets := []string{"A", "AZ", "az09_", "AZaz09_-", "AZ09-", "Aé €", "😀", " ", "a b", "a\x7f"}
	least, most := bounds(s.MinLength, s.MaxLength, 0)
	var text string
	for range 100 {
		if s.MaxLength == nil {
			most = pick(a, 2, 3, 32, 33, 64, 65, 128, 129) // The lengths of patterns.
		}
		letters := []rune(pick(a, alphabets...))
		runes := make([]rune, a.around(least, most, pick(a, 3, 40)))
		for i := range runes {
			runes[i] = pick(a, letters...)
		}
		text = string(runes)
		if a.errs() {
			text += pick(a, "\n", `\n`, `\u0041`, `\"`, "\x00", "\xff", "\u2028", "é", "é", "\ufffd", " ", "!", "a", `\ud83d\ude00`)
			break
		}
		if s.Pattern == nil || s.Pattern.MatchString(text) {
			break
		}
	}
	a.write(`"` + text + `"`)
}

func (a *author) instant() string {
	two := func(top int) string {
		if a.errs() {
			return pick(a, fmt.Sprintf("%02d", top+1), fmt.Sprintf("%02d", top), "00", "99", "1", "+1", "1 ", "a1")
		}
		return fmt.Sprintf("%02d", 1+a.IntN(top))
	}
	year := pick(a, "2026", "2024", "1900", "2000", "0000", "9999")
	at := year + "-" + two(12) + "-" + two(31) + pick(a, "T", "T", "T", "T", "T", "T", "T", "t") + two(23) + ":" + two(59) + ":" + two(59)
	at += pick(a, "", ".1", ".123456", "."+strings.Repeat("1", 19))
	if a.errs() {
		at += pick(a, ".", ".1a", "."+strings.Repeat("1", 20), ",5")
	}
	if a.errs() {
		at += pick(a, "", "+24:00", "ZZ", "+1:00")
	} else {
		at += pick(a, "Z", "Z", "Z", "Z", "Z", "Z", "Z", "Z", "z", "+01:00", "-00:00")
	}
	if a.errs() {
		i := a.IntN(len(at))
		at = at[:i] + pick(a, "", "0", "-", "é", " ") + at[i+1:]
	}
	return at
}

// garble changes single bytes, or cuts, or adds.
func (a *author) garble() {
	if len(a.out) == 0 {
		return
	}
	i := a.IntN(len(a.out))
	switch a.IntN(5) {
	case 0:
		a.out = a.out[:i]
	case 1:
		a.out = append(a.out, pick(a, " ", "\n", "}", "{}", "1", ",", "\x00", "x", " null")...)
	case 2:
		a.out[i] = pick(a, byte(a.IntN(256)), '"', '\\', '{', '}', ',', ':', '0', '.', '-', ' ')
	case 3:
		a.out = slices.Delete(a.out, i, i+1)
	case 4:
		a.out = slices.Insert(a.out, i, byte(a.IntN(256)))
	}
}

func TestWhatIsAcceptedQuicklyIsValid(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i, m := range events.All() {
		t.Run(m.Type, func(t *testing.T) {
			t.Parallel()
			quick, err := events.Quick(m.Type)
			require.NoError(t, err)
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			var accepted, refused, undecided int
			for range 600 {
				a := &author{Rand: random, wrong: pick(&author{Rand: random}, 0, 0, 0.005, 0.02, 0.1)}
				a.value(events.SchemaOf(m.Type))
				if a.errs() {
					a.garble()
				}
				err := events.ValidateByLibrary(m.Type, a.out)
				switch {
				case quick.Accepts(a.out):
					require.NoError(t, err, "seed %d: %q", seed, a.out)
					accepted++
				case err == nil:
					undecided++
				default:
					require.EqualError(t, events.Validate(m.Type, a.out), err.Error())
					refused++
				}
			}
			t.Logf("%d accepted, %d left to the library and valid, %d refused", accepted, undecided, refused)
			require.Greater(t, accepted, 30, "a test of too few accepted ones shows little")
			require.Greater(t, refused, 30)
		})
	}
}

func FuzzWhatIsAcceptedQuicklyIsValid(f *testing.F) {
	for i, m := range events.All() {
		for _, s := range samples(f, "valid", m.Type) {
			f.Add(i, []byte(s.Data))
		}
	}
	for i, s := range junk {
		f.Add(i, []byte(s))
	}
	all := events.All()
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		typ := all[uint(i)%uint(len(all))].Type
		quick, err := events.Quick(typ)
		require.NoError(t, err)
		if quick.Accepts(data) {
			require.NoError(t, events.ValidateByLibrary(typ, data))
		}
	})
}
