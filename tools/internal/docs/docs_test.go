// Package docs_test holds the documentation against the code.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../../.."

var (
	reference = regexp.MustCompile("`([a-z][a-zA-Z0-9_./-]+\\.(?:go|sql|yaml)):([^`]+)`")
	link      = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
)

// TestReferences: what a page names as `path:text` stands in that file.
func TestReferences(t *testing.T) {
	t.Parallel()
	for name, atLeast := range map[string]int{"docs/ARCHITECTURE.md": 30, "docs/DELIVERY.md": 25, "docs/FAULTS.md": 0} {
		page, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		found := reference.FindAllStringSubmatch(string(page), -1)
		require.Greater(t, len(found), atLeast, name)
		for _, m := range found {
			text, err := os.ReadFile(filepath.Join(root, m[1]))
			require.NoError(t, err)
			require.Contains(t, string(text), m[2], m[1])
		}
	}
}

// TestLinks: a relative link leads to a file.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(root, "docs/adr/*.md"))
	require.NoError(t, err)
	for _, page := range append(append(pages, more...), filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(m[1], "://") {
				_, err := os.Stat(filepath.Join(filepath.Dir(page), m[1]))
				require.NoError(t, err, "%s links to %s", page, m[1])
			}
		}
	}
}
