// Package accept says quickly of most valid messages that they are valid by their JSON Schema.
//
// A Checker is made of a schema that the library (santhosh-tekuri/jsonschema) has compiled, references resolved. It reads
// the message's bytes once, allocates nothing, and knows two answers: "certainly valid" and "do not know". On the
// second one the library decides, and words the error. So a mistake here cannot refuse anything; what it must never
// do is accept what the library refuses. This is why it does not:
//
//   - Compile looks at every field of the library's schema, and one that is set and not known here makes it fail: such a schema
//     has no Checker. So does a known keyword in a form that is not known, and a later library's new field. What the library
//     ignores (an unknown format, an unknown keyword) has no field, and asserts nothing there either.
//   - Whatever is unusual in the bytes is "do not know": an escape in a string, a character beyond ASCII in a name, bytes that are not
//     UTF-8, a number that is not a plain integer of at most 18 digits, a known name twice, a date-time that is not in UTC, unknown
//     fields nested deeply. What remains is read by a decoder in one way only.
//   - A pattern is the library's own regular expression. The automaton that stands in for it on ASCII is built from the same
//     parse by Go's regexp/syntax.
//
// Tests compare both on made-up and on mutilated messages of every contract, and fail if a contract loses its Checker.
package accept
