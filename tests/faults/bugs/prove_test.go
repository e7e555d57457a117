//go:build faults

package bugs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tests/faults"
	"github.com/orderflow/orderflow/tests/faults/bugs"
)

// quiet is how long everything may take to hold. With a bug it never does.
const quiet = 45 * time.Second

// TestCheckerSees: with a bug in the services its plan ends with a finding that names it, and without with none.
func TestCheckerSees(t *testing.T) {
	bin, err := filepath.Abs(filepath.Join(root, "bin", "faults"))
	require.NoError(t, err)
	for _, b := range listed(t) {
		t.Run(b.Name, func(t *testing.T) {
			began := time.Now()
			buggy := t.TempDir()
			require.NoError(t, b.Build(t.Context(), root, bin, buggy))
			found := play(t, b.Plan, buggy)
			said := named(b, found)
			require.NotEmpty(t, said, "nothing says %q of %q, but:\n%v", b.Says, b.Finding, found.Err())
			fmt.Printf("%s, %.0f s: %s: %s\n", b.Name, time.Since(began).Seconds(), b.Finding, said)

			sound := play(t, b.Plan, bin)
			require.NoError(t, sound.Err(), "without the bug")
			fmt.Printf("  without it: %s\n", sound)
		})
	}
}

// named is the first thing found that names the bug, empty for none.
func named(b bugs.Bug, r faults.Result) string {
	says := regexp.MustCompile(b.Says)
	for _, c := range r.Checks {
		if at := slices.IndexFunc(c.Wrong, says.MatchString); c.Name == b.Finding && at >= 0 {
			return c.Wrong[at]
		}
	}
	return ""
}

// play carries a plan out, all of it.
func play(t *testing.T, p faults.Plan, bin string) faults.Result {
	t.Helper()
	r, err := faults.Run(t.Context(), p, faults.Config{Bin: bin, Dir: t.TempDir(), Quiet: quiet})
	require.NoError(t, err, p)
	require.Empty(t, r.Missed, "nobody came to a point: %s", p)
	require.NotEmpty(t, r.Checks, p)
	return r
}
