package bugs_test

import (
	"maps"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/faults/bugs"
	"github.com/orderflow/orderflow/tools/overlay"
)

const root = "../../.."

func listed(t *testing.T) []bugs.Bug {
	t.Helper()
	all, err := bugs.All()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// TestBugsFit: each bug's changes fit the sources, what is changed compiles, and there is a plan to play.
func TestBugsFit(t *testing.T) {
	t.Parallel()
	for _, b := range listed(t) {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, b.In)
			require.NotEmpty(t, b.Finding)
			require.Positive(t, b.Plan.Orders)
			require.Positive(t, b.Plan.Rate)
			require.Positive(t, b.Plan.Replicas)
			_, err := regexp.Compile(b.Says)
			require.NoError(t, err)
			laid, err := overlay.Write(root, t.TempDir(), b.Changes...)
			require.NoError(t, err)
			packages := map[string]bool{}
			for _, c := range b.Changes {
				if path.Ext(c.File) == ".go" {
					packages["./"+path.Dir(c.File)] = true
				}
			}
			build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-overlay", laid}, slices.Sorted(maps.Keys(packages))...)...)
			build.Dir = root
			out, err := build.CombinedOutput()
			require.NoError(t, err, string(out))
		})
	}
}
