package events_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api/events"
)

// While a service is rolled out, its old and its new version read each other's messages. The old one reads a message with
// fields that it does not know, in the message and in whatever is inside of it, and sees what it knows. That the new one
// can read messages without its new field is what `contracts check` sees to: a field that is added must be optional.
func TestTwoVersionsSideBySide(t *testing.T) {
	t.Parallel()
	const added = "field_of_the_next_version"
	for _, m := range events.All() {
		for _, s := range samples(t, "valid", m.Type) {
			t.Run(m.Type+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				want := m.New()
				require.NoError(t, json.Unmarshal(s.Data, want))
				var message any
				require.NoError(t, json.Unmarshal(s.Data, &message))
				newer, err := json.Marshal(withField(message, added))
				require.NoError(t, err)
				require.Contains(t, string(newer), added)
				require.NoError(t, events.Validate(m.Type, newer))
				read := m.New()
				require.NoError(t, json.Unmarshal(newer, read))
				require.Equal(t, want, read)
			})
		}
	}
}

// withField adds a field to every object in a message.
func withField(message any, name string) any {
	switch m := message.(type) {
	case map[string]any:
		for key, value := range m {
			m[key] = withField(value, name)
		}
		m[name] = "of no interest to those who do not know it"
	case []any:
		for i := range m {
			m[i] = withField(m[i], name)
		}
	}
	return message
}
