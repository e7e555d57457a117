//go:build faults

package faults

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// The environment says how long the round is: SEEDS plans from seed FROM on, with ORDERS orders each, on the STACK.
func TestSeeds(t *testing.T) {
	seeds, from, orders := number(t, "SEEDS", 3), number(t, "FROM", 1), number(t, "ORDERS", 200)
	require.GreaterOrEqual(t, orders, 20, "ORDERS")
	shape := Shape{Orders: orders, Native: os.Getenv("STACK") == "native"}
	say := func(string, ...any) {}
	if os.Getenv("VERBOSE") != "" {
		say = func(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }
	}
	total := map[Kind]int{}
	for seed := uint64(from); seed < uint64(from+seeds); seed++ {
		p := Draw(seed, shape)
		dir, err := os.MkdirTemp("", fmt.Sprintf("faults-%d-", seed))
		require.NoError(t, err)
		say("%s", p)
		r, err := Run(context.Background(), p, Config{
			Bin: filepath.Join(root, "bin"), Dir: dir, Libs: filepath.Join(os.Getenv("NATIVE_DIR"), "libs"), Say: say,
		})
		fmt.Println(r)
		if err == nil && len(r.Wrong) == 0 {
			require.NoError(t, os.RemoveAll(dir))
		} else {
			t.Errorf("%s\n%v\n%v\nlogs: %s\nagain: make chaos SEEDS=1 FROM=%d ORDERS=%d STACK=%s",
				p, err, r.Wrong, filepath.Join(dir, "logs"), seed, orders, cmp.Or(os.Getenv("STACK"), "embedded"))
		}
		for k, n := range r.Faults {
			total[k] += n
		}
	}
	fmt.Println("in all:", Counts(total))
}

func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	require.Positive(t, n, name)
	return n
}
