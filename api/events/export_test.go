package events

import (
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/orderflow/orderflow/api/events/internal/accept"
)

// Quick returns the quick check of a type that has a schema, and why there is none.
func Quick(typ string) (*accept.Checker, error) {
	s := compiled()[typ]
	return s.quick, s.unknown
}

// ValidateByLibrary is Validate without the quick check.
func ValidateByLibrary(typ string, data []byte) error { return check(typ, compiled()[typ].full, data) }

// SchemaOf returns the library's schema of a type.
func SchemaOf(typ string) *jsonschema.Schema { return compiled()[typ].full }
