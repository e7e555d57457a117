//go:build faults

package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// The environment says how long the round is: SEEDS plans from seed FROM on, with ORDERS orders each, on the STACK.
// VERBOSE=1 has every fault told.
func TestSeeds(t *testing.T) {
	seeds, from, orders := number(t, "SEEDS", 3), number(t, "FROM", 1), number(t, "ORDERS", 200)
	require.GreaterOrEqual(t, orders, 20, "ORDERS")
	servers := cmp.Or(os.Getenv("STACK"), "embedded")
	require.Contains(t, []string{"embedded", "native"}, servers, "STACK")
	var say func(format string, args ...any)
	if os.Getenv("VERBOSE") != "" {
		say = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	}
	var all Result
	for seed := uint64(from); seed < uint64(from+seeds); seed++ {
		p := Draw(seed, Shape{Orders: orders, Native: servers == "native"})
		dir := folder(t, p)
		r, err := Run(context.Background(), p, Config{
			Bin: filepath.Join(root, "bin", "faults"), Dir: dir, Libs: filepath.Join(os.Getenv("NATIVE_DIR"), "libs"), Say: say,
		})
		fmt.Println(r)
		all.Add(r)
		if err != nil || len(r.Wrong) > 0 {
			t.Errorf("%s\n\n%s\n\nagain: make chaos STACK=%s FROM=%d SEEDS=1 ORDERS=%d VERBOSE=1\nlogs:  %s",
				p, errors.Join(err, r.Err()), servers, seed, orders, filepath.Join(dir, "logs"))
			continue
		}
		require.NoError(t, os.RemoveAll(dir))
	}
	fmt.Println(all.Total(seeds))
}

// folder is one that PostgreSQL, which is not run as root, can enter.
func folder(t *testing.T, p Plan) string {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("faults-%d-", p.Seed))
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// number reads a variable that is 1 or more.
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
