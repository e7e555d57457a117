package audit_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTablesAreDocumented holds the list in docs/FAULTS.md of what the checker reads against its queries.
func TestTablesAreDocumented(t *testing.T) {
	t.Parallel()
	query := regexp.MustCompile("`SELECT ([^`]+) FROM ([a-z_]+)[^`]*`")
	column, word := regexp.MustCompile("`[a-z_]+`"), regexp.MustCompile(`[a-z_]{2,}`)
	var read, documented []string
	entry := func(table string, columns []string) string {
		slices.Sort(columns)
		return table + ": " + strings.Join(slices.Compact(columns), " ")
	}
	for _, file := range []string{"evidence.go", "../../../pkg/testkit/evidence/tables.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		queries := query.FindAllStringSubmatch(string(source), -1)
		require.Len(t, queries, strings.Count(string(source), "SELECT "), "a query of %s that this test cannot read", file)
		for _, q := range queries {
			read = append(read, entry(q[2], word.FindAllString(q[1], -1)))
		}
	}
	doc, err := os.ReadFile("../../../docs/FAULTS.md")
	require.NoError(t, err)
	_, list, found := strings.Cut(string(doc), "| service | table | columns |\n|---|---|---|\n")
	require.True(t, found)
	list, _, _ = strings.Cut(list, "\n\n")
	for _, line := range strings.Split(list, "\n") {
		cells := strings.Split(line, "|")
		columns, _, _ := strings.Cut(cells[3], ", in the order of")
		names := column.FindAllString(columns, -1)
		for i, name := range names {
			names[i] = strings.Trim(name, "`")
		}
		documented = append(documented, entry(strings.Trim(strings.TrimSpace(cells[2]), "`"), names))
	}
	slices.Sort(read)
	slices.Sort(documented)
	require.Equal(t, read, documented)
}
