//go:build !failpoints

package failpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/failpoint"
)

// Not parallel: others would allocate.
func TestWithoutTheTagAPointCostsNothing(t *testing.T) {
	t.Setenv(failpoint.EnvDir, t.TempDir())
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		failpoint.Pass(failpoint.OffsetBeforeCommit)
		if err := failpoint.After(nil, failpoint.ConsumerBeforeCommit); err != nil {
			t.Error(err)
		}
	}))
}
