package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/faults/audit"
)

// Whatever way its orders went, a sound system passes.
func TestSound(t *testing.T) {
	t.Parallel()
	found := audit.Judge(sound(t), audit.Options{})
	require.NoError(t, found.Err())
	require.True(t, found.OK)
}
