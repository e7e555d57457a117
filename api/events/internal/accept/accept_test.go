package accept_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events/internal/accept"
)

// compile returns the library's schema of a text, with everything asserted that the library can assert.
func compile(t testing.TB, text string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	require.NoError(t, c.AddResource("https://test.example/it.json", doc))
	s, err := c.Compile("https://test.example/it.json")
	require.NoError(t, err, text)
	return s
}

func TestASchemaOfWhichAnythingIsUnknownHasNoChecker(t *testing.T) {
	t.Parallel()
	for _, unknown := range []string{
		`true`, `false`, `{}`, `{"enum":["a"]}`, `{"const":1}`, `{"type":["string","integer"]}`, `{"type":"number"}`, `{"type":"boolean"}`, `{"type":"null"}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","type":"string"}`, `{"$schema":"https://json-schema.org/draft/2019-09/schema","type":"string"}`,
		`{"type":"string","enum":["a"]}`, `{"type":"string","const":"a"}`, `{"type":"string","not":{"type":"string"}}`, `{"type":"string","allOf":[{"maxLength":1}]}`,
		`{"type":"string","anyOf":[{"maxLength":1}]}`, `{"type":"string","oneOf":[{"maxLength":1}]}`, `{"type":"string","if":{"minLength":3},"then":{"maxLength":1}}`,
		`{"type":"string","format":"email"}`, `{"type":"string","format":"regex"}`, `{"type":"string","contentEncoding":"base64"}`,
		`{"type":"string","contentMediaType":"application/json"}`, `{"type":"string","minimum":1}`, `{"type":"string","minItems":1}`, `{"type":"string","required":["a"]}`,
		`{"type":"integer","exclusiveMinimum":1}`, `{"type":"integer","exclusiveMaximum":1}`, `{"type":"integer","multipleOf":2}`, `{"type":"integer","minimum":0.5}`,
		`{"type":"integer","maximum":9223372036854775808}`, `{"type":"integer","maxLength":1}`, `{"type":"integer","enum":[1]}`,
		`{"type":"array"}`, `{"type":"array","items":{"type":"string"},"uniqueItems":true}`, `{"type":"array","items":false}`, `{"type":"array","prefixItems":[{"type":"string"}],"items":{"type":"string"}}`,
		`{"type":"array","items":{"type":"string"},"contains":{"type":"string"}}`, `{"type":"array","items":{"type":"string"},"unevaluatedItems":false}`,
		`{"type":"object","additionalProperties":false}`, `{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","patternProperties":{"a":false}}`,
		`{"type":"object","propertyNames":{"maxLength":1}}`, `{"type":"object","minProperties":1}`, `{"type":"object","maxProperties":1}`, `{"type":"object","required":["a"]}`,
		`{"type":"object","dependentRequired":{"a":["b"]}}`, `{"type":"object","dependentSchemas":{"a":false}}`, `{"type":"object","dependencies":{"a":["b"]},"$schema":"http://json-schema.org/draft-07/schema#"}`,
		`{"type":"object","unevaluatedProperties":false}`, `{"type":"object","properties":{"a":false}}`, `{"type":"object","properties":{"a":{"enum":[1]}}}`,
		`{"$ref":"#/$defs/a","maxLength":1,"$defs":{"a":{"type":"string"}}}`, `{"$ref":"#/$defs/a","type":"string","$defs":{"a":{"type":"string"}}}`, `{"$ref":"#"}`,
		`{"type":"object","properties":{"a":{"$ref":"#"}}}`, `{"$dynamicRef":"#a","$defs":{"a":{"$dynamicAnchor":"a","type":"string"}}}`,
	} {
		var c accept.Compiler
		checker, err := c.Compile(compile(t, unknown))
		require.Error(t, err, unknown)
		require.Nil(t, checker)
		require.False(t, checker.Accepts([]byte(`"a"`)))
		_, err = c.Compile(compile(t, unknown))
		require.Error(t, err, "the second time too: %s", unknown)
	}
}

func TestAnnotationsAreNoObstacle(t *testing.T) {
	t.Parallel()
	var c accept.Compiler
	checker, err := c.Compile(compile(t, `{"$id":"https://test.example/it.json","$comment":"c","title":"t","description":"d","default":"a","examples":["a"],
		"deprecated":true,"readOnly":true,"writeOnly":true,"x-unknown":1,"type":"string","format":"of-the-future"}`))
	require.NoError(t, err)
	require.True(t, checker.Accepts([]byte(`"a"`)))
}

func TestWhatIsKnownAndWhatIsNot(t *testing.T) {
	t.Parallel()
	checks := map[string]*accept.Checker{}
	var c accept.Compiler
	for name, schema := range map[string]string{
		"object": `{"type":"object","required":["a"],"properties":{"a":{"type":"integer","minimum":1,"maximum":3},"b":{"type":"array","minItems":1,"maxItems":2,"items":{"type":"string"}}}}`,
		"text":   `{"type":"string","minLength":2,"maxLength":3}`,
		"time":   `{"type":"string","format":"date-time"}`,
		"number": `{"type":"integer"}`,
	} {
		checker, err := c.Compile(compile(t, schema))
		require.NoError(t, err)
		checks[name] = checker
	}
	deep := func(n int) string {
		return `{"a":1,"later":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	for name, texts := range map[string]struct{ yes, no []string }{
		"object": {
			yes: []string{`{"a":1}`, " {\t\"a\" :\r\n3 } ", `{"b":["x"],"a":2}`, `{"later":{"x":[1,"é",true,false,null,{}]},"a":1}`, `{"A":"","a":1,"later":1,"later":2}`, deep(16)},
			no: []string{
				``, ` `, `{`, `{}`, `[]`, `{"a":0}`, `{"a":4}`, `{"a":"1"}`, `{"a":1.0}`, `{"a":1e0}`, `{"a":01}`, `{"a":-1}`, `{"a":1,}`, `{,"a":1}`, `{"a":1 "b":["x"]}`, `{"a":1}}`, `{"a":1}{}`, `{"a":1} x`,
				`{"a":1,"a":1}`, `{"\u0061":1}`, "{\"a\":1,\"é\":1}", `{"a":1,"b":[]}`, `{"a":1,"b":["x","y","z"]}`, `{"a":1,"b":[1]}`, `{"a":1,"b":["x",]}`, `{"a":1,"b":["x"`, `{"a" 1}`, `{"a":1,"later":}`,
				`{"a":1,"later":1.5}`, `{"a":1,"later":nul}`, `{"a":1,"later":truefalse}`, `{"a":1,"later":[}`, "{\"a\":1,\"later\":\"\xff\"}", "{\"a\":1,\v\"later\":1}", deep(17),
			},
		},
		"text": {
			yes: []string{`"ab"`, `"abc"`, `"éé"`, `"😀😀😀"`, "\"\x7f\x7f\""},
			no:  []string{`"a"`, `"abcd"`, `"é"`, `"😀😀😀😀"`, `"\u0061b"`, "\"a\nb\"", "\"ab\xff\"", "\"\xed\xa0\x80\"", `"ab`, `'ab'`, `null`, `12`},
		},
		"time": {
			yes: []string{`"2026-11-21T10:15:30Z"`, `"2026-11-21T10:15:30.123456Z"`, `"0000-01-31T23:59:59.1Z"`, `"2025-02-28T00:00:00Z"`},
			no: []string{
				`"2026-11-21T10:15:30"`, `"2026-11-21T10:15:30.Z"`, `"2026-11-21T10:15:30,1Z"`, `"2026-11-21t10:15:30Z"`, `"2026-11-21T10:15:30z"`, `"2026-11-21T10:15:30+00:00"`, `"2026-13-21T10:15:30Z"`, `"2026-00-21T10:15:30Z"`,
				`"2026-11-31T10:15:30Z"`, `"2026-11-00T10:15:30Z"`, `"2024-02-29T10:15:30Z"`, `"2026-11-21T24:15:30Z"`, `"2026-11-21T10:60:30Z"`, `"2026-11-21T23:59:60Z"`, `"2026-11-21T10:15:3Z"`, `"2026-11-21T10:15:30.1xZ"`, `""`, `"Z"`,
			},
		},
		"number": {
			yes: []string{`0`, `7`, ` 42 `, `999999999999999999`},
			no:  []string{`-0`, `-7`, `00`, `1000000000000000000`, `99999999999999999999999`, `1.0`, `1e3`, `1 2`, `+1`, `0x1`, `null`},
		},
	} {
		for _, s := range texts.yes {
			require.True(t, checks[name].Accepts([]byte(s)), "%s: %q", name, s)
		}
		for _, s := range texts.no {
			require.False(t, checks[name].Accepts([]byte(s)), "%s: %q", name, s)
		}
	}
}

func TestRequiredFieldsUpTo64(t *testing.T) {
	t.Parallel()
	names, fields := make([]string, 65), make([]string, 65)
	for i := range names {
		names[i] = fmt.Sprintf(`"f%d"`, i)
		fields[i] = names[i] + ":1"
	}
	of := func(n int) *jsonschema.Schema {
		properties := strings.ReplaceAll(strings.Join(fields[:n], ","), ":1", `:{"type":"integer"}`)
		return compile(t, `{"type":"object","properties":{`+properties+`},"required":[`+strings.Join(names[:n], ",")+`]}`)
	}
	var c accept.Compiler
	checker, err := c.Compile(of(64))
	require.NoError(t, err)
	require.True(t, checker.Accepts([]byte("{"+strings.Join(fields[:64], ",")+"}")))
	for i := range 64 {
		without := slices.Delete(slices.Clone(fields[:64]), i, i+1)
		require.False(t, checker.Accepts([]byte("{"+strings.Join(without, ",")+"}")), names[i])
	}
	_, err = c.Compile(of(65))
	require.ErrorContains(t, err, "more than 64 properties")
}

// A text's pattern must say what the library's regular expression says, whether a table stands in for it or not.
func TestPatternsAreTheLibrarys(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	letters := []rune("abABZz09_- \x7f.é€😀\u2028\ufffd")
	for pattern, table := range map[string]bool{
		`^[A-Za-z0-9_-]{1,64}$`: true, `^[A-Za-z0-9_-]{1,128}$`: true, `^[A-Z0-9-]{1,32}$`: true, `^[A-Z]{3}$`: true, `^[A-Z]{2}$`: true,
		`^[a-z][a-z0-9_]{0,63}$`: true, `^[^\x00-\x1F\x7F]*[^\x00-\x20\x7F][^\x00-\x1F\x7F]*$`: true,
		`^(a|ab)(b|A)*$`: true, `^a*?b{2,4}A+$`: true, `^(?i:ab)+$`: true, `^.*$`: true, `^(?s:.)$`: true, `^[^a]$`: true, `^\x{e9}$`: true, `^(()|a)+$`: true,
		`^a{253}$`: true, `^a{254}$`: false, `^a|b$`: false, `^a$|^b$`: false, `^(^a)$`: false, `^a$b`: false, `^$`: true,
		`^`: false, `$`: false, ``: false, `a`: false, `^a`: false, `a$`: false, `(?m)^a$`: false, `^\ba\b$`: false, `^(a|b)*a(a|b){9}$`: false,
	} {
		s := compile(t, fmt.Sprintf(`{"type":"string","pattern":%q}`, pattern))
		require.Equal(t, table, accept.HasTable(s.Pattern.String()), "%s is matched by a table", pattern)
		var c accept.Compiler
		checker, err := c.Compile(s)
		require.NoError(t, err)
		var yes, no int
		same := func(text string) {
			want := s.Pattern.MatchString(text)
			require.Equal(t, want, checker.Accepts([]byte(`"`+text+`"`)), "seed %d: %s of %q", seed, pattern, text)
			if want {
				yes++
			} else {
				no++
			}
		}
		for _, letter := range letters {
			for _, length := range []int{0, 1, 2, 3, 4, 31, 32, 33, 63, 64, 65, 127, 128, 129, 252, 253, 254, 255} {
				same(strings.Repeat(string(letter), length))
			}
		}
		for _, text := range []string{"ab", "abA", "abbA", "bbbbAA", "aabbaab"} { // what chance may not make
			same(text)
		}
		for range 3000 {
			some := []rune{letters[random.IntN(len(letters))], letters[random.IntN(len(letters))], letters[random.IntN(5)]}
			text := make([]rune, random.IntN(8))
			for i := range text {
				text[i] = some[random.IntN(len(some))]
			}
			same(string(text))
		}
		require.True(t, yes > 0 || pattern == `^a$b`, "%s matched nothing", pattern)
		require.True(t, no > 0 || slices.Contains([]string{`^`, `$`, ``, `^.*$`}, pattern), "%s matched everything", pattern)
	}
}
