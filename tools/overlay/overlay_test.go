package overlay_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/overlay"
)

const program = `package main

import "fmt"

func main() {
	fmt.Println("one")
	fmt.Println("two")
}
`

func sources(t *testing.T) (root string) {
	root = t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": "module sample\n\ngo 1.26\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	return root
}

func TestBuildsWithTheChangesAndLeavesTheFile(t *testing.T) {
	t.Parallel()
	root := sources(t)
	laid, err := overlay.Write(root, t.TempDir(),
		overlay.Change{File: "main.go", Old: `"one"`, New: `"1"`}, overlay.Change{File: "main.go", Old: `"two"`, New: `"one"`})
	require.NoError(t, err)

	run := exec.CommandContext(t.Context(), "go", "run", "-overlay", laid, ".")
	run.Dir, run.Env = root, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := run.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "1\none\n", string(out))
	text, err := os.ReadFile(filepath.Join(root, "main.go"))
	require.NoError(t, err)
	require.Equal(t, program, string(text))
}

func TestChangesThatDoNotFit(t *testing.T) {
	t.Parallel()
	root := sources(t)
	for name, tc := range map[string]struct {
		changes []overlay.Change
		says    string
	}{
		"not there":    {[]overlay.Change{{File: "main.go", Old: `"three"`}}, `main.go has "\"three\"" 0 times, it must be there once`},
		"twice":        {[]overlay.Change{{File: "main.go", Old: "fmt.Println"}}, `main.go has "fmt.Println" 2 times, it must be there once`},
		"no old text":  {[]overlay.Change{{File: "main.go", New: "x"}}, `main.go has ""`},
		"no such file": {[]overlay.Change{{File: "other.go", Old: "x"}}, "other.go"},
		"gone already": {[]overlay.Change{{File: "main.go", Old: `"one"`, New: "1"}, {File: "main.go", Old: `Println("one")`}},
			`main.go has "Println(\"one\")" 0 times`},
		"each is named": {[]overlay.Change{{File: "main.go", Old: "a thing"}, {File: "main.go", Old: "another"}}, `"another" 0 times`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := overlay.Write(root, dir, tc.changes...)
			require.ErrorContains(t, err, tc.says)
			written, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, written)
		})
	}
}
